//! Asking and being answered.

use fantoccini::key::Key;
use llmchat_browser::{Look, Page, Stage, named};
use serde_json::json;

const RECALL: &str = "What did I say before?";
const NOTHING: &str = "You have said nothing before this.";

#[tokio::test]
async fn an_answer_comes_piece_by_piece() {
    let stage = Stage::new();
    let page = Page::open(&stage.url, Look::English).await;
    assert_eq!(page.value("[...document.querySelectorAll('#agent option')].map(o => o.text)").await, json!(["Demo"]));
    assert_eq!(page.bubbles().await.len(), 0, "an empty page says nothing");
    page.picture("empty").await;
    page.value("window.seen = [], new MutationObserver(() => { const text = document.querySelector('.answer > p')?.textContent; if (text && text !== seen.at(-1)) seen.push(text); }).observe(document.querySelector('#log'), { childList: true, subtree: true, characterData: true })").await;
    page.keys(named("question"), "sim:pieces=8 sim:pace=100").await;
    page.click(named("send")).await;
    page.until("seen.length && document.querySelector('.answer').ariaBusy === 'true'").await;
    assert_eq!(page.text("document.querySelector('#send').textContent").await, "Stop");
    assert_eq!(page.text("document.querySelector('#question').value").await, "", "there is room for the next one");
    page.answered().await;
    let whole = "w1 w2 w3 w4 w5 w6 w7 w8 ";
    assert_eq!(page.last_answer().await, whole);
    let seen = page.value("seen").await;
    let seen: Vec<&str> = seen.as_array().expect("a list").iter().filter_map(|text| text.as_str()).collect();
    assert!(seen.len() > 3 && seen.iter().all(|text| whole.starts_with(text)), "{seen:?}");
    assert_eq!(page.last_status().await, "", "all is well, so nothing is said");
    page.until("document.querySelector('#send').textContent === 'Send'").await;
    page.is_clean().await;
}

#[tokio::test]
async fn an_answer_is_stopped_and_the_conversation_goes_on() {
    let stage = Stage::new();
    let page = Page::open(&stage.url, Look::English).await;
    assert_eq!(page.ask(RECALL).await, NOTHING);
    page.keys(named("question"), "sim:pieces=9 sim:stall=3").await;
    page.click(named("send")).await;
    page.until("[...document.querySelectorAll('.answer > p')].at(-1).textContent === 'w1 w2 w3 '").await;
    page.picture("streaming").await;
    page.keys(named("question"), &format!("not yet{}", Key::Enter)).await;
    assert_eq!(page.bubbles().await.len(), 4, "one question at a time");
    page.click(named("send")).await;
    page.answered().await;
    assert_eq!((page.last_answer().await.as_str(), page.last_status().await.as_str()), ("w1 w2 w3 ", "Stopped."));
    page.value("document.querySelector('#question').value = ''").await;
    let recalled = page.ask(RECALL).await;
    assert_eq!(recalled, format!("Before this you said: \"{RECALL}\"; \"sim:pieces=9 sim:stall=3\"."));
    page.is_clean().await;
}

#[tokio::test]
async fn a_question_without_any_answer_is_left_too() {
    let stage = Stage::new();
    let page = Page::open(&stage.url, Look::English).await;
    page.keys(named("question"), "sim:hang").await;
    page.click(named("send")).await;
    page.until("document.querySelector('#send').textContent === 'Stop'").await;
    page.click(named("send")).await;
    page.answered().await;
    assert_eq!(page.last_status().await, "Stopped.");
    assert!(page.ask("hello").await.starts_with("You asked: hello."));
}

#[tokio::test]
async fn a_new_chat_knows_nothing_of_the_old_one_and_another_agent_neither() {
    let stage = Stage::with_agents(&[("one", "Agent <b>one</b>"), ("two", "Agent two")]);
    let page = Page::open(&stage.url, Look::English).await;
    let options = page.value("[...document.querySelectorAll('#agent option')].map(o => o.text)").await;
    assert_eq!(options, json!(["Agent <b>one</b>", "Agent two"]));
    assert!(page.ask("I am Ada").await.starts_with("You asked: I am Ada."));
    assert_eq!(page.ask(RECALL).await, "Before this you said: \"I am Ada\".");
    page.click(named("fresh")).await;
    assert_eq!(page.bubbles().await.len(), 0);
    assert_eq!(page.ask(RECALL).await, NOTHING);
    page.find(named("agent")).await.select_by_value("two").await.expect("it is there");
    page.until("document.querySelectorAll('.user, .answer').length === 0").await;
    assert_eq!(page.ask(RECALL).await, NOTHING);
    page.reload().await;
    assert_eq!(page.text("document.querySelector('#agent').value").await, "two", "it stays chosen");
    page.is_clean().await;
}

#[tokio::test]
async fn enter_sends_and_shift_enter_breaks_a_line() {
    let stage = Stage::new();
    let page = Page::open(&stage.url, Look::English).await;
    let question = named("question");
    page.keys(question, &format!("  {}", Key::Enter)).await;
    assert_eq!(page.bubbles().await.len(), 0, "blanks are no question");
    page.value("document.querySelector('#question').value = ''").await;
    page.keys(question, &format!("one{}{}{}two", Key::Shift, Key::Enter, Key::Null)).await;
    assert_eq!(page.text("document.querySelector('#question').value").await, "one\ntwo");
    page.keys(question, &Key::Enter.to_string()).await;
    page.answered().await;
    assert_eq!(page.bubbles().await[0], "one\ntwo");
    assert_eq!(page.text("document.activeElement.id").await, "question", "one writes on");
    page.is_clean().await;
}

/// Goal: whatever a person or a model says is text. Each of these would raise a flag if it were taken for markup.
#[tokio::test]
async fn markup_is_shown_and_never_run() {
    const EVIL: &str =
        r#"<img src=x onerror="window.hit=1"><script>window.hit=1</script><svg onload=hit=1></svg>"'&amp;</p>"#;
    let stage = Stage::new();
    let page = Page::open(&stage.url, Look::English).await;
    let answer = page.ask(EVIL).await;
    assert!(answer.starts_with(&format!("You asked: {EVIL}.")), "{answer}");
    assert_eq!(page.bubbles().await[0], EVIL);
    page.picture("markup").await;
    page.reload().await;
    page.until("document.querySelectorAll('.user, .answer').length === 2").await;
    assert_eq!(page.bubbles().await, [EVIL, answer.as_str()], "nor as history");
    page.click(named("earlier")).await;
    let title = page.text("document.querySelector('#chats button').firstChild.textContent").await;
    assert!(title.contains("<img src=x"), "{title}");
    let made = "document.querySelectorAll('#log img, #log script, #log svg, #chats img, #chats svg').length";
    assert_eq!(page.value(made).await, json!(0));
    assert_eq!(page.value("window.hit ?? null").await, json!(null));
    page.is_clean().await;
}

#[tokio::test]
async fn thoughts_choices_and_silence_are_told_apart() {
    let stage = Stage::new();
    let page = Page::open(&stage.url, Look::English).await;
    page.ask("sim:reasoning").await;
    let thoughts = page.text("document.querySelector('.answer details p').textContent").await;
    assert!(thoughts.contains("用户在问一个问题"), "{thoughts}");
    assert_eq!(page.ask("sim:empty").await, "");
    assert_eq!(page.last_status().await, "(nothing was said)");
    page.ask("sim:interactive").await;
    page.picture("choices").await;
    page.click(fantoccini::Locator::XPath("//main//button[.='病假']")).await;
    page.until("document.querySelectorAll('.user').length === 4").await;
    page.answered().await;
    assert!(page.last_answer().await.starts_with("You asked: 病假."));
    page.is_clean().await;
}
