//! What goes wrong is said in a sentence, in the person's language.

use fantoccini::Locator;
use llmchat_browser::{Look, Page, Stage, named};

#[tokio::test]
async fn a_failure_of_the_upstream_is_a_sentence() {
    let stage = Stage::new();
    let page = Page::open(&stage.url, Look::English).await;
    page.ask("sim:error=quota").await;
    assert_eq!(page.last_status().await, "The agent's quota is used up.");
    page.was_refused(&[402]).await;
    assert_eq!(page.ask("sim:pieces=9 sim:truncate=2").await, "w1 w2 ", "what came stays");
    assert_eq!(page.last_status().await, "The agent's server broke off.");
    page.picture("failed").await;
    let failed = page.value("document.querySelectorAll('.answer.failed').length").await;
    assert_eq!(failed, 2);
    assert!(page.ask("hello").await.starts_with("You asked: hello."), "and the next one is answered");
    page.is_clean().await;
}

#[tokio::test]
async fn an_agent_that_rests_says_for_how_long() {
    let stage = Stage::new();
    let page = Page::open(&stage.url, Look::English).await;
    for _ in 0..2 {
        page.ask("sim:error=503").await;
        assert_eq!(page.last_status().await, "The agent's server failed.");
    }
    page.ask("hello").await;
    let status = page.last_status().await;
    assert!(status.contains("Try again in ") && status.ends_with(" s."), "{status}");
    assert!(status.starts_with(|first: char| first.is_uppercase()) && !status.contains("CIRCUIT"), "{status}");
    page.picture("resting").await;
    page.was_refused(&[502, 503]).await;
    page.click(Locator::Css(".answer:last-child .tools button")).await;
    page.until("document.querySelector('.answer:last-child').ariaBusy === 'false'").await;
    let again = page.last_status().await;
    assert!(again.contains("Try again in "), "nor is it lost, though nothing of it is stored: {again}");
}

#[tokio::test]
async fn failures_are_told_in_chinese_to_who_reads_chinese() {
    let stage = Stage::new();
    let page = Page::open(&stage.url, Look::Chinese).await;
    assert_eq!(page.text("document.documentElement.lang").await, "zh");
    assert_eq!(page.text("document.querySelector('#send').textContent").await, "发送");
    assert_eq!(page.text("document.querySelector('#question').placeholder").await, "输入问题，回车发送");
    page.ask("sim:error=quota").await;
    assert_eq!(page.last_status().await, "智能体的额度已用完。");
    page.was_refused(&[402]).await;
    assert_eq!(page.ask("sim:truncate=0").await, "抱歉，暂时无法获得回答，请稍后再试。");
    assert_eq!(page.last_status().await, "智能体的服务器出错了。");
    page.ask("sim:error=503").await;
    page.ask("你好").await;
    let status = page.last_status().await;
    assert!(status.starts_with("智能体多次失败，正在休息。 请在 ") && status.ends_with(" 秒后再试。"), "{status}");
    page.picture("chinese").await;
}

#[tokio::test]
async fn a_service_without_an_agent_says_how_to_add_one() {
    let stage = Stage::with_agents(&[]);
    let page = Page::open(&stage.url, Look::English).await;
    assert_eq!(page.bubbles().await, ["There is no agent yet: add one with llmchat agents import."]);
    assert!(!page.find(named("send")).await.is_enabled().await.expect("it is there"));
    page.is_clean().await;
}

#[tokio::test]
async fn a_server_that_is_gone_is_a_sentence_too() {
    let stage = Stage::new();
    let page = Page::open(&stage.url, Look::English).await;
    drop(stage);
    page.ask("hello").await;
    assert_eq!(page.last_status().await, "The connection to the server broke.");
}
