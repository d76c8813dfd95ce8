//! What was said stays: after a reload, in the list of earlier chats, with what a person thinks of it.

use fantoccini::Locator;
use llmchat_browser::{Look, Page, Stage, named};
use serde_json::json;

const AGAIN: Locator<'_> = Locator::Css(".answer:last-child .tools button:nth-child(1)");
const GOOD: Locator<'_> = Locator::Css(".answer:last-child .tools button:nth-child(2)");
const BAD: Locator<'_> = Locator::Css(".answer:last-child .tools button:nth-child(3)");

#[tokio::test]
async fn a_reload_shows_the_chat_and_the_next_question_belongs_to_it() {
    let stage = Stage::new();
    let page = Page::open(&stage.url, Look::English).await;
    assert!(!page.find(named("earlier")).await.is_displayed().await.expect("it is there"), "there is none yet");
    let answer = page.ask("my name is Ada").await;
    page.keys(named("question"), "sim:pieces=9 sim:stall=2").await;
    page.click(named("send")).await;
    page.until("[...document.querySelectorAll('.answer > p')].at(-1).textContent === 'w1 w2 '").await;
    page.reload().await;
    page.until("document.querySelectorAll('.answer').length === 2").await;
    assert_eq!(page.bubbles().await[..3], ["my name is Ada", answer.as_str(), "sim:pieces=9 sim:stall=2"]);
    page.is_clean().await;
    // What ran at the reload has been left, and may still be ending.
    page.click(named("fresh")).await;
    page.ask("another chat").await;
    page.click(named("earlier")).await;
    page.until("document.querySelectorAll('#chats li').length === 2").await;
    page.picture("history").await;
    page.click(Locator::Css("#chats li:last-child button")).await;
    page.until("document.querySelectorAll('.user, .answer').length === 4").await;
    let recalled = page.ask("What did I say before?").await;
    assert!(recalled.starts_with("Before this you said: \"my name is Ada\""), "{recalled}");
    page.is_clean().await;
}

#[tokio::test]
async fn an_answer_is_judged_and_given_again() {
    let stage = Stage::new();
    let page = Page::open(&stage.url, Look::English).await;
    page.ask("hello").await;
    page.click(GOOD).await;
    let pressed = "[...document.querySelectorAll('.answer:last-child [aria-pressed]')].map(b => b.ariaPressed).join()";
    page.until(&format!("{pressed} === 'true,false'")).await;
    page.click(BAD).await;
    page.until(&format!("{pressed} === 'false,true'")).await;
    page.picture("judged").await;
    page.reload().await;
    page.until(&format!("{pressed} === 'false,true'")).await;
    page.click(BAD).await;
    page.until(&format!("{pressed} === 'false,false'")).await;
    page.value("document.querySelector('.answer > p').textContent = 'old'").await;
    page.click(AGAIN).await;
    page.until("document.querySelector('.answer > p').textContent !== 'old'").await;
    page.answered().await;
    assert!(page.last_answer().await.starts_with("You asked: hello."));
    assert_eq!(page.bubbles().await.len(), 2, "in the old one's place");
    page.is_clean().await;
}

#[tokio::test]
async fn an_earlier_chat_is_deleted_only_when_it_is_meant() {
    let stage = Stage::new();
    let page = Page::open(&stage.url, Look::English).await;
    page.ask("to be deleted").await;
    page.until("document.querySelectorAll('#chats li').length === 1").await;
    page.click(named("earlier")).await;
    page.click(Locator::Css("#chats li button:last-child")).await;
    page.accept().await;
    page.until("document.querySelectorAll('.user, .answer').length === 0 && document.querySelector('#earlier').hidden")
        .await;
    page.reload().await;
    assert_eq!(page.value("document.querySelectorAll('.user, #chats li').length").await, json!(0));
    page.is_clean().await;
}

/// The smallest PNG there is.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\nIDATx\x9cc\0\x01\0\0\x05\0\x01\r\n-\xb4\0\0\0\0IEND\xaeB`\x82";

#[tokio::test]
async fn a_file_is_attached_to_a_question() {
    let stage = Stage::new();
    let page = Page::open(&stage.url, Look::English).await;
    let choose = |name: &'static str, bytes: &[u8]| stage.file(name, bytes).display().to_string();
    page.keys(named("file"), &choose("map.png", PNG)).await;
    page.until("document.querySelector('.chip span')?.textContent === 'map.png'").await;
    page.keys(named("file"), &choose("left.png", PNG)).await;
    page.until("document.querySelectorAll('.chip').length === 2").await;
    page.click(Locator::Css(".chip:last-child button")).await;
    page.picture("attached").await;
    let answer = page.ask("what is in it?").await;
    assert!(
        answer.contains("what is in it?") && answer.contains("map.png") && !answer.contains("left.png"),
        "{answer}"
    );
    assert_eq!(page.text("document.querySelector('.user small').textContent").await, "＋ map.png");
    assert_eq!(page.value("document.querySelectorAll('.chip').length").await, json!(0));
    page.reload().await;
    page.until("document.querySelector('.user a')?.text === 'map.png'").await;
    assert!(page.text("document.querySelector('.user a').pathname").await.starts_with("/uploads/"));
    page.is_clean().await;
    page.keys(named("file"), &choose("program.exe", b"MZ\0\0\x01\x02\x03\xff")).await;
    page.until("document.querySelector('.chip.failed')").await;
    let refused = page.text("document.querySelector('.chip span').textContent").await;
    assert!(
        refused.starts_with("program.exe: ") && refused.ends_with('.') && !refused.contains("UNSUPPORTED"),
        "{refused}"
    );
    page.was_refused(&[415]).await;
}
