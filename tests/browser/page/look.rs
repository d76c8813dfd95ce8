//! For whoever uses a narrow screen, a keyboard or a screen reader.

use fantoccini::Locator;
use llmchat_browser::{Look, Page, Stage, named};
use serde_json::json;

const LONG: &str = "a-word-without-any-end-";

#[tokio::test]
async fn a_narrow_screen_never_scrolls_sideways() {
    let name = format!("An agent whose name is {}", LONG.repeat(4));
    let stage = Stage::with_agents(&[("one", &name), ("two", "Two")]);
    let page = Page::open(&stage.url, Look::Phone).await;
    let sideways = "document.documentElement.scrollWidth - innerWidth";
    assert_eq!((page.value("innerWidth").await, page.value(sideways).await), (json!(360), json!(0)));
    page.picture("phone-empty").await;
    let question = LONG.repeat(20);
    page.ask(&question).await;
    page.picture("phone").await;
    assert_eq!(page.value(sideways).await, json!(0));
    page.click(named("earlier")).await;
    page.picture("phone-history").await;
    assert_eq!(page.value(sideways).await, json!(0));
    page.click(named("pastClose")).await;
    page.click(named("account")).await;
    page.picture("phone-login").await;
    assert_eq!(page.value(sideways).await, json!(0));
    page.click(named("leave")).await;
    let below = page.value("innerHeight - document.querySelector('#ask').getBoundingClientRect().bottom").await;
    assert!(below.as_f64().is_some_and(|below| below.abs() < 1.0), "the question's field is in sight: {below}");
    page.is_clean().await;
}

#[tokio::test]
async fn everything_that_can_be_used_has_a_name() {
    let stage = Stage::new();
    let page = Page::open(&stage.url, Look::English).await;
    page.ask("hello").await;
    page.until("!document.querySelector('#earlier').hidden").await;
    // What lies behind a dialog has no name as long as that is open.
    for (dialog, controls, least, close) in [
        ("", "header button, header select, #log button, #ask button, #ask textarea", 9, ""),
        ("earlier", "#past button", 3, "pastClose"),
        ("account", "#door button, #door input", 4, "leave"),
    ] {
        if !dialog.is_empty() {
            page.click(named(dialog)).await;
        }
        let mut names = Vec::new();
        for control in page.all(Locator::Css(controls)).await {
            if control.is_displayed().await.expect("it is there") {
                names.push(page.label(&control).await);
            }
        }
        let is_name = |name: &String| name.chars().any(char::is_alphabetic);
        assert!(names.len() >= least && names.iter().all(is_name), "{names:?}");
        if !close.is_empty() {
            page.click(named(close)).await;
        }
    }
    assert_eq!(page.text("document.querySelector('main').getAttribute('role')").await, "log");
    assert_eq!(page.text("document.documentElement.lang").await, "en");
    page.is_clean().await;
}
