use crate::process::Process;
use fantoccini::elements::Element;
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use url::{ParseError, Url};

/// A condition that does not hold by then fails its test.
const PATIENCE_MS: u64 = 20_000;

/// Whose browser it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    English,
    Chinese,
    /// As English, on a narrow screen that is touched.
    Phone,
}

/// The page in a browser of its own, with its own profile.
pub struct Page {
    client: Client,
    url: String,
    // In this order: the browser ends before its driver, and its profile goes last.
    _driver: Driver,
    _profile: TempDir,
}

/// A locator of the element of that id.
pub fn named(id: &str) -> Locator<'_> {
    Locator::Id(id)
}

impl Page {
    /// Opens the page at `url`, and waits until it can be asked.
    pub async fn open(url: &str, look: Look) -> Self {
        let profile = tempfile::tempdir().expect("a temporary directory");
        let driver = Driver::start();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities(look, profile.path()));
        let address = format!("http://127.0.0.1:{}", driver.port);
        let client = builder.connect(&address).await.expect("Chromium starts");
        let page = Self { client, url: url.to_owned(), _driver: driver, _profile: profile };
        page.load().await;
        page
    }

    /// Loads the page, as a person who types its address.
    pub async fn load(&self) {
        self.client.goto(&self.url).await.expect("the page loads");
        self.is_ready().await;
    }

    /// As a person who presses F5.
    pub async fn reload(&self) {
        self.client.refresh().await.expect("the page loads");
        self.is_ready().await;
    }

    async fn is_ready(&self) {
        self.until("document.querySelector('#log .failed') || !document.querySelector('#send').disabled").await;
    }

    /// The value of an expression in the page.
    pub async fn value(&self, expression: &str) -> Value {
        let found = self.client.execute(&format!("return ({expression});"), Vec::new()).await;
        found.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// A text in the page.
    pub async fn text(&self, expression: &str) -> String {
        let found = self.value(expression).await;
        found.as_str().unwrap_or_else(|| panic!("{expression} is no text: {found}")).to_owned()
    }

    /// Waits until an expression is something, and returns it.
    pub async fn until(&self, expression: &str) -> Value {
        let script = format!(
            "const done = arguments[0], look = () => {{ const found = ({expression}); \
             if (found) done(found === true || found instanceof Node ? true : found); else setTimeout(look, 10); }}; look();"
        );
        match self.client.execute_async(&script, Vec::new()).await {
            Ok(found) => found,
            Err(error) => {
                let shown = self.value("document.body.innerText").await;
                panic!("never: {expression}: {error}\nthe page shows:\n{shown}\nand says: {:?}", self.said().await)
            }
        }
    }

    pub async fn find(&self, what: Locator<'_>) -> Element {
        self.client.find(what).await.unwrap_or_else(|error| panic!("{what:?}: {error}"))
    }

    pub async fn click(&self, what: Locator<'_>) {
        let element = self.find(what).await;
        element.click().await.unwrap_or_else(|error| panic!("{what:?}: {error}"));
    }

    /// Presses keys where the person writes.
    pub async fn keys(&self, what: Locator<'_>, keys: &str) {
        let element = self.find(what).await;
        element.send_keys(keys).await.unwrap_or_else(|error| panic!("{what:?}: {error}"));
    }

    /// Writes a question, sends it, and waits for its answer's end; the answer's text.
    pub async fn ask(&self, question: &str) -> String {
        self.keys(named("question"), question).await;
        self.click(named("send")).await;
        self.answered().await;
        self.last_answer().await
    }

    /// Waits until no answer is coming any more.
    pub async fn answered(&self) {
        self.until("document.querySelector('#log .answer:last-child')?.ariaBusy === 'false'").await;
    }

    /// The text of the last answer.
    pub async fn last_answer(&self) -> String {
        self.text("[...document.querySelectorAll('#log .answer > p')].at(-1).textContent").await
    }

    /// What the last answer's small print says.
    pub async fn last_status(&self) -> String {
        self.text("[...document.querySelectorAll('#log .answer > small')].at(-1).textContent").await
    }

    /// What each has said, the first first; the agent's welcome is not one of them.
    pub async fn bubbles(&self) -> Vec<String> {
        let texts = self.value(
            "[...document.querySelectorAll('#log .turn:not(.welcome) > p:first-of-type')].map(p => p.textContent)",
        );
        let texts = texts.await;
        texts.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
    }

    /// Answers a question of the browser's own with yes.
    pub async fn accept(&self) {
        self.client.accept_alert().await.expect("the browser asks");
    }

    /// What a screen reader calls an element.
    pub async fn label(&self, element: &Element) -> String {
        let command = Get(format!("element/{}/computedlabel", &*element.element_id()));
        let label = self.client.issue_cmd(command).await.expect("Chromium computes labels");
        label.as_str().expect("a label is a text").to_owned()
    }

    pub async fn all(&self, what: Locator<'_>) -> Vec<Element> {
        self.client.find_all(what).await.expect("a page can be searched")
    }

    /// All that the browser's console has said since it was asked last: errors, refused loads, broken policies.
    pub async fn said(&self) -> Vec<String> {
        let entries = self.client.issue_cmd(Log).await.expect("Chromium keeps a log");
        let texts = entries.as_array().expect("a list").iter().map(|entry| entry["message"].to_string());
        texts.collect()
    }

    /// Fails if the page has made the browser complain.
    pub async fn is_clean(&self) {
        let said = self.said().await;
        assert!(said.is_empty(), "{said:#?}");
    }

    /// As [`Page::is_clean`], of a page that was told `no` by the server with these statuses, and of nothing else.
    pub async fn was_refused(&self, statuses: &[u16]) {
        let said = self.said().await;
        let expected = |line: &String| statuses.iter().any(|status| line.contains(&format!("status of {status} ")));
        assert!(said.iter().all(expected), "{said:#?}");
        let is_there = |status: &u16| said.iter().any(|line| line.contains(&format!("status of {status} ")));
        assert!(statuses.iter().all(is_there), "{statuses:?}: {said:#?}");
    }

    /// Keeps a picture of the page for a person to look at, where `LLMCHAT_PICTURES` names a directory.
    pub async fn picture(&self, name: &str) {
        let Some(dir) = env::var_os("LLMCHAT_PICTURES") else { return };
        let png = self.client.screenshot().await.expect("Chromium paints");
        fs::write(PathBuf::from(dir).join(format!("{name}.png")), png).expect("the directory is there");
    }
}

/// A question to the driver that its clients have no words for.
#[derive(Debug)]
struct Get(String);

impl WebDriverCompatibleCommand for Get {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.0))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::GET, None)
    }
}

/// Asks for the browser's console, and empties it.
#[derive(Debug)]
struct Log;

impl WebDriverCompatibleCommand for Log {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({ "type": "browser" }).to_string()))
    }
}

fn capabilities(look: Look, profile: &Path) -> Capabilities {
    let language = if look == Look::Chinese { "zh-CN,zh" } else { "en-US,en" };
    let mut options = json!({
        "args": [
            "--headless=new", "--window-size=1000,800", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            // Root, as in CI, has no sandbox; and nothing is opened here but our own page.
            "--no-sandbox",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            format!("--user-data-dir={}", profile.display()),
        ],
        "prefs": { "intl.accept_languages": language },
    });
    if look == Look::Phone {
        options["mobileEmulation"] = json!({ "deviceMetrics": { "width": 360, "height": 740, "pixelRatio": 2.0 } });
    }
    let capabilities = json!({
        "goog:chromeOptions": options,
        "goog:loggingPrefs": { "browser": "WARNING" },
        "timeouts": { "script": PATIENCE_MS, "pageLoad": PATIENCE_MS },
        "unhandledPromptBehavior": "ignore",
    });
    capabilities.as_object().expect("it is one").clone()
}

/// Chromium's driver, and through it the browser.
struct Driver {
    port: u16,
    _process: Process,
}

impl Driver {
    fn start() -> Self {
        let (process, port) = Process::start(Command::new("chromedriver").arg("--port=0"), |line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        Self { port, _process: process }
    }

    /// The driver ends its browser and itself; a driver that is killed would leave the browser.
    fn shut_down(&self) -> std::io::Result<()> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port))?;
        socket.set_read_timeout(Some(Duration::from_millis(PATIENCE_MS)))?;
        write!(socket, "GET /shutdown HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nconnection: close\r\n\r\n", self.port)?;
        socket.read_to_end(&mut Vec::new()).map(drop)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.shut_down();
    }
}
