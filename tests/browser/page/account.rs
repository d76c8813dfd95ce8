//! Logging in and out.

use llmchat_browser::{Look, Page, Stage, named};

#[tokio::test]
async fn a_person_logs_in_and_out_and_each_has_a_history_of_their_own() {
    let stage = Stage::new();
    let (name, password) = stage.admin();
    let page = Page::open(&stage.url, Look::English).await;
    page.ask("as a visitor").await;
    page.click(named("account")).await;
    page.keys(named("username"), &name).await;
    page.keys(named("password"), "wrong").await;
    page.click(named("enter")).await;
    page.until("document.querySelector('#refused').textContent").await;
    page.picture("login").await;
    assert!(page.text("document.querySelector('#refused').textContent").await.ends_with('.'));
    page.was_refused(&[401]).await;
    page.find(named("password")).await.clear().await.expect("it is a field");
    page.keys(named("password"), &password).await;
    page.click(named("enter")).await;
    page.until("document.querySelector('#account').textContent === 'Log out'").await;
    page.until("document.querySelectorAll('.user, .answer').length === 0 && document.querySelector('#earlier').hidden")
        .await;
    assert_eq!(page.value("document.querySelector('#door').open").await, false);
    page.ask("as the administrator").await;
    page.reload().await;
    page.until("document.querySelectorAll('.user, .answer').length === 2").await;
    assert_eq!(page.text("document.querySelector('#account').title").await, name);
    let stored = page.text("document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)").await;
    assert!(!stored.contains("eyJ") && !stored.contains(&password), "no script can read a token: {stored}");
    page.click(named("account")).await;
    page.until("document.querySelector('#account').textContent === 'Log in'").await;
    page.until("document.querySelector('#chats button')?.firstChild.textContent === 'as a visitor'").await;
    page.is_clean().await;
}
