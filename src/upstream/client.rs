use super::answer::Answer;
use super::body::{LastMoment, MayAsk, TooLate};
use super::diagnose;
use super::request;
use super::settings::Settings;
use super::timers::Timers;
use crate::base::Label;
use crate::clock;
use crate::net::{self, Resolver};
use crate::protocol::agent::{Agent, Provider};
use crate::protocol::answer::{Class, Ending, Failure};
use crate::protocol::chat::Message;
use crate::protocol::head::Head;
use crate::protocol::{dify, fastgpt};
use bytes::Bytes;
use hyper::Uri;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Below the 5 s after which Node closes an idle connection: a question sent into a closing
/// connection may or may not have arrived, and could not be asked again.
const POOL_IDLE: Duration = Duration::from_secs(4);
/// Before the second and last try to connect: a server that restarts listens again by then.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Init data describe one app; FastGPT's own JSON routes take 1 MB.
const INIT_BYTES_MAX: usize = 4 << 20;
/// Of an answer that says why there is none.
const REFUSAL_BYTES_MAX: usize = 1 << 20;

/// What is asked. The ids are ours and random: the client's own mean something to its owner only.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) chat_id: String,
    /// What the upstream itself called the conversation, where it names them: the way to go on with it.
    pub(crate) conversation: Option<Label>,
    pub(crate) item_id: String,
    /// Who asks, for the upstream's log.
    pub(crate) customer: String,
    pub(crate) origin: Origin,
    pub(crate) detail: bool,
    pub(crate) variables: Option<Map<String, Value>>,
    pub(crate) metadata: Option<Value>,
    pub(crate) retain_dataset_cite: Option<bool>,
    pub(crate) temperature: Option<f64>,
    pub(crate) max_tokens: Option<u32>,
    /// The conversation so far where the upstream keeps none, and the user's message last.
    pub(crate) messages: Vec<Message>,
}

/// What somebody thinks of an answer, under the ids that the upstream knows; with neither word it is withdrawn.
#[derive(Clone, Debug)]
pub(crate) struct Feedback {
    pub(crate) chat_id: String,
    pub(crate) item_id: String,
    pub(crate) good: Option<String>,
    pub(crate) bad: Option<String>,
}

/// Where a question comes from. FastGPT is told, for its limits by address and the language of its own messages;
/// nobody else is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    pub(crate) address: Option<IpAddr>,
    /// The client's `Accept-Language`, visible ASCII.
    pub(crate) languages: Option<String>,
}

/// The client could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("read the trusted roots")]
    Roots(#[from] net::RootsError),
    #[error("upstream.proxy: `{proxy}` is no proxy")]
    Proxy {
        proxy: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("set up the HTTP client")]
    Build(#[source] reqwest::Error),
}

/// The shared client: one pool of connections for every agent. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    settings: Arc<Settings>,
}

impl Client {
    /// Sets the client up; nothing is connected yet.
    pub(crate) fn new(settings: Settings, resolver: Resolver) -> Result<Self, ClientError> {
        let mut tls = net::client_tls(net::roots(settings.ca_file.as_deref())?);
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(Names(resolver)))
            .connect_timeout(settings.connect)
            .tcp_nodelay(true)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(POOL_IDLE)
            .user_agent(concat!("llmchat/", env!("CARGO_PKG_VERSION")))
            .no_proxy();
        if let Some(proxy) = &settings.proxy {
            let to_error = |source| ClientError::Proxy { proxy: proxy.clone(), source };
            builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(to_error)?);
        }
        let http = builder.build().map_err(ClientError::Build)?;
        Ok(Self { http, settings: Arc::new(settings) })
    }

    /// Asks, and returns the answer as soon as its head is there.
    ///
    /// # Errors
    ///
    /// [`Class::Unreachable`]: the question cannot have arrived. Any other class: it may have.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or the answer, hangs up, which stops a FastGPT v1 run.
    pub(crate) async fn open(
        &self,
        agent: &Arc<Agent>,
        question: &Question,
        may_ask: &MayAsk,
    ) -> Result<Answer, Failure> {
        let asked_at = clock::now();
        let first_byte_by = asked_at + self.settings.first_byte;
        let mut response = self.ask(agent, question, may_ask, first_byte_by).await?;
        if may_be_forgotten(agent, question, &response) {
            let head = head(&response);
            let said = self.rest(response, (first_byte_by, REFUSAL_BYTES_MAX)).await?;
            if !dify::is_forgotten(&head, &said) {
                return Err(diagnose::without_keys(refusal(agent, head, &said), agent));
            }
            // Nothing has run yet, and nothing that was charged for: it is asked again, as the first of another one.
            let anew = Question { conversation: None, ..question.clone() };
            response = self.ask(agent, &anew, may_ask, first_byte_by).await?;
        }
        let decoder = request::decoder(agent, head(&response));
        let timers = Timers::new(Arc::clone(&self.settings), asked_at);
        Ok(Answer::new(response, decoder, timers, Arc::clone(agent)))
    }

    async fn ask(
        &self,
        agent: &Agent,
        question: &Question,
        may_ask: &MayAsk,
        first_byte_by: Instant,
    ) -> Result<Response, Failure> {
        let body = Bytes::from(request::body(agent, question));
        let headers = request::headers(agent, &question.origin);
        let request = || {
            self.http
                .post(agent.profile.endpoint.as_str())
                .headers(headers.clone())
                .body(reqwest::Body::wrap(LastMoment::new(body.clone(), may_ask)))
        };
        match self.send(request(), first_byte_by).await {
            Err(failure) if failure.class == Class::Unreachable => {
                tokio::time::sleep(CONNECT_AGAIN_AFTER).await;
                self.send(request(), first_byte_by).await
            }
            sent => sent,
        }
    }

    /// The whole of a body that is no stream.
    async fn rest(&self, mut response: Response, (by, bytes_max): (Instant, usize)) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        loop {
            let read = tokio::time::timeout_at(by.into(), response.chunk()).await;
            match read.map_err(|_| diagnose::timed_out("the rest of its answer", self.settings.first_byte))? {
                Ok(Some(bytes)) if body.len() + bytes.len() <= bytes_max => body.extend_from_slice(&bytes),
                Ok(Some(_)) => return Err(diagnose::too_long(bytes_max)),
                Ok(None) => return Ok(body),
                Err(error) => return Err(diagnose::reading(&error)),
            }
        }
    }

    /// FastGPT's or Dify's description of the agent's app, in FastGPT's form, which costs nothing and starts no run.
    ///
    /// Waits at most the first-byte timer for each of head and body.
    ///
    /// # Errors
    ///
    /// [`Class::Unreachable`] also where it may not be asked any more: nothing was sent.
    pub(crate) async fn init(&self, agent: &Agent, chat_id: Option<&str>, may_ask: &MayAsk) -> Result<Value, Failure> {
        let profile = &agent.profile;
        let app_id = profile.app_id.as_deref().unwrap_or_default();
        let of_dify = profile.provider == Provider::Dify;
        let url = if of_dify {
            dify::parameters_url(&profile.endpoint)
        } else {
            fastgpt::management::init_url(&profile.endpoint, app_id, chat_id)
        };
        let by = clock::now() + self.settings.first_byte;
        // A question without a body has no later moment than this one.
        if !may_ask() {
            return Err(Failure::new(Class::Unreachable, TooLate.to_string()));
        }
        let response = self.send(self.http.get(url).headers(request::key(agent)), by).await?;
        let head = head(&response);
        let body = self.rest(response, (by, INIT_BYTES_MAX)).await?;
        let described = if of_dify {
            dify::description((&profile.name, &profile.description), &head, &body)
        } else {
            fastgpt::management::init(&head, &body)
        };
        described.map_err(|failure| diagnose::without_keys(failure, agent))
    }

    /// Tells FastGPT what somebody thinks of an answer. Waits as [`Client::init`] does; tried once.
    pub(crate) async fn feedback(&self, agent: &Agent, told: &Feedback, may_ask: &MayAsk) -> Result<(), Failure> {
        let body = fastgpt::management::Feedback {
            app_id: agent.profile.app_id.as_deref().unwrap_or_default(),
            chat_id: &told.chat_id,
            data_id: &told.item_id,
            user_good_feedback: told.good.as_deref(),
            user_bad_feedback: told.bad.as_deref(),
        };
        self.tell(agent, fastgpt::management::feedback_url(&agent.profile.endpoint), &body, may_ask).await
    }

    /// Stops a run that was hung up on, where it goes on for all that: FastGPT holds its chat for it until it ends. Waits as
    /// [`Client::init`] does; tried once.
    pub(crate) async fn stop(&self, agent: &Agent, chat_id: &str, may_ask: &MayAsk) -> Result<(), Failure> {
        let of_fastgpt = agent.profile.provider == Provider::Fastgpt && agent.profile.features.supports_chat_id;
        let url = of_fastgpt.then(|| fastgpt::management::stop_url(&agent.profile.endpoint)).flatten();
        let Some(url) = url else { return Ok(()) };
        let app_id = agent.profile.app_id.as_deref().unwrap_or_default();
        self.tell(agent, url, &fastgpt::management::Stop { app_id, chat_id }, may_ask).await
    }

    async fn tell(&self, agent: &Agent, url: String, body: &impl Serialize, may_ask: &MayAsk) -> Result<(), Failure> {
        let body = Bytes::from(serde_json::to_vec(body).expect("texts always serialize"));
        let by = clock::now() + self.settings.first_byte;
        let request = self
            .http
            .post(url)
            .headers(request::key(agent))
            .header(CONTENT_TYPE, "application/json")
            .body(reqwest::Body::wrap(LastMoment::new(body, may_ask)));
        let response = self.send(request, by).await?;
        let head = head(&response);
        let body = self.rest(response, (by, INIT_BYTES_MAX)).await?;
        let taken = fastgpt::management::data(&head, &body);
        taken.map(drop).map_err(|failure| diagnose::without_keys(failure, agent))
    }

    async fn send(&self, request: RequestBuilder, first_byte_by: Instant) -> Result<Response, Failure> {
        match tokio::time::timeout_at(first_byte_by.into(), request.send()).await {
            Ok(sent) => sent.map_err(|error| diagnose::sending(&error, self.settings.connect)),
            Err(_) => Err(diagnose::timed_out("its first byte", self.settings.first_byte)),
        }
    }
}

/// What the breaker tells upstreams and apps apart by: `scheme://host:port`, and the key with the
/// app, hashed by the breaker and never shown.
pub(crate) fn target(agent: &Agent) -> (String, String) {
    let endpoint = &agent.profile.endpoint;
    // A URL in its normal form since the agent was checked: the cheap parser reads it.
    let upstream = endpoint.parse::<Uri>().map_or_else(
        |_| endpoint.clone(),
        |uri| {
            let scheme = uri.scheme_str().unwrap_or_default();
            let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
            format!("{scheme}://{}:{port}", uri.host().unwrap_or_default())
        },
    );
    let app = format!(
        "{}/{}/{}",
        agent.api_key.expose(),
        agent.profile.app_id.as_deref().unwrap_or_default(),
        agent.profile.model
    );
    (upstream, app)
}

/// An answer that may be of a conversation that Dify has no more.
fn may_be_forgotten(agent: &Agent, question: &Question, response: &Response) -> bool {
    let continues = agent.profile.provider == Provider::Dify && question.conversation.is_some();
    continues && matches!(response.status().as_u16(), 400 | 404)
}

/// The failure that a whole body tells of.
fn refusal(agent: &Agent, head: Head, body: &[u8]) -> Failure {
    let mut decoder = request::decoder(agent, head);
    let mut events = Vec::new();
    decoder.push(body, &mut events);
    match decoder.finish(&mut events) {
        Ending::Failed(failure) => failure,
        Ending::Done(_) => Failure::new(Class::Unknown, format!("an answer, and HTTP {}", head.status)),
    }
}

fn head(response: &Response) -> Head {
    Head { status: response.status().as_u16(), retry_after: retry_after(response.headers()) }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Every outgoing name goes through the one resolver.
struct Names(Resolver);

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.0.clone();
        Box::pin(async move {
            let addresses = resolver.resolve(name.as_str()).await?;
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{AgentId, Secret, UnixMillis};
    use crate::protocol::agent::{Features, Profile, Source};
    use std::net::TcpListener;

    fn client() -> Client {
        let second = Duration::from_secs(1);
        let (first_byte, first_token, idle, total) = (second, second, second, second);
        let settings = Settings { connect: second, first_byte, first_token, idle, total, ca_file: None, proxy: None };
        Client::new(settings, Resolver::new(clock::now)).unwrap()
    }

    fn agent(endpoint: String) -> Agent {
        let profile = Profile {
            name: "A".to_owned(),
            description: String::new(),
            provider: Provider::Fastgpt,
            endpoint,
            app_id: Some("0".repeat(24)),
            model: String::new(),
            max_tokens: None,
            temperature: None,
            system_prompt: None,
            capabilities: Vec::new(),
            rate_limit: None,
            features: Features::default(),
            is_active: true,
            problems: Vec::new(),
        };
        let (created_at, updated_at) = (UnixMillis(0), UnixMillis(0));
        let (id, api_key) = (AgentId::parse("a").unwrap(), Secret::new("key".to_owned()));
        Agent { id, api_key, profile, source: Source::File, created_at, updated_at }
    }

    #[tokio::test]
    async fn an_app_is_not_asked_for_its_description_by_a_node_that_may_not_ask() {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        upstream.set_nonblocking(true).unwrap();
        let agent = agent(format!("http://{}/api/v1/chat/completions", upstream.local_addr().unwrap()));
        let may_not: MayAsk = Arc::new(|| false);
        let refused = client().init(&agent, None, &may_not).await.unwrap_err();
        assert_eq!(
            (refused.class, refused.message.as_str()),
            (Class::Unreachable, "the question is not asked any more")
        );
        assert_eq!(upstream.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nothing has connected");
        let may: MayAsk = Arc::new(|| true);
        assert_eq!(client().init(&agent, None, &may).await.unwrap_err().class, Class::TimedOut, "it was asked");
    }
}
