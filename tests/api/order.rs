//! A stream's events and their order, and what is sent upstream for it.

use crate::question;
use crate::recorded::Fixture;
use crate::support::{Agent, Event, Home, Upstream};
use serde_json::{Value, json};

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

#[test]
fn a_stream_comes_in_the_order_the_front_end_relies_on() {
    let upstream = Fixture::named("v1_workflow_detail_true_done_then_flowresponses.sse").upstream();
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let answer = node.browser().chat(&question("年假几天", true));
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-cache, no-transform"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    let events = answer.events();
    let chunks: Vec<&str> = std::iter::repeat_n("chunk", 6).collect();
    let node_status = ["status", "flowNodeStatus"];
    let mut wanted = vec!["chatId", "start"];
    wanted.extend(node_status.iter().cycle().take(6));
    wanted.extend(chunks);
    wanted.extend(["updateVariables", "workflowDuration", "status", "flowResponses"]);
    let told: Vec<&str> = names(&events).into_iter().filter(|name| *name != "usage").collect();
    wanted.extend(["status", "end"]);
    assert_eq!(told, wanted);

    assert_eq!(events[0].json(), json!({ "chatId": "session_1" }));
    let start = events[1].json();
    assert_eq!((&start["id"], &start["agentId"]), (&json!("1-a"), &json!("a")));
    let running = json!({ "type": "flowNodeStatus", "status": "running", "moduleName": "Start" });
    assert_eq!(events[2].json(), running);
    assert_eq!(events[3].data, r#"{"status":"running","name":"Start"}"#);
    let of = |name: &str| events.iter().filter(|event| event.name == name).map(Event::json).collect::<Vec<_>>();
    let status = of("status");
    assert_eq!(status[3], json!({ "type": "progress", "status": "completed", "moduleName": "执行完成" }));
    assert_eq!(status[4], json!({ "type": "complete", "status": "completed" }));
    assert_eq!(of("end")[0]["persisted"], true);
    let usage = json!({ "prompt_tokens": 268, "completion_tokens": 43, "total_tokens": 311 });
    assert_eq!(of("usage"), [usage], "summed from the node responses, never the upstream's own 1/1/1");
}

#[test]
fn run_details_come_before_the_end_in_both_orders_of_the_upstream() {
    for file in ["v1_workflow_detail_true_done_then_flowresponses.sse", "v1_reasoning_detail_true.sse"] {
        let fixture = Fixture::named(file);
        let home = Home::new(&[Agent::of("a", &fixture.upstream())]);
        let events = home.start().browser().chat(&question("年假几天", true)).events();
        let details = events.iter().position(|event| event.name == "flowResponses").expect("details are passed on");
        let complete = events.iter().position(|event| event.name == "status" && event.data.contains("complete\""));
        assert!(complete.is_some_and(|complete| details < complete), "{file}: {:?}", names(&events));
        assert_eq!(events.last().map(|event| event.name.as_str()), Some("end"), "{file}");
        let recorded = String::from_utf8(fixture.bytes.clone()).expect("UTF-8");
        assert!(recorded.contains(&events[details].data), "{file}: not the upstream's bytes");
    }
}

#[test]
fn reasoning_is_told_apart_from_the_answer() {
    let upstream = Fixture::named("v1_reasoning_detail_true.sse").upstream();
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let events = node.browser().chat(&question("年假几天", true)).events();
    let reasoning = events.iter().filter(|event| event.name == "reasoning").map(Event::json);
    let thought: String = reasoning.map(|event| event["content"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(thought, "用户问年假，需要查手册。");
    let whole = node.browser().chat(&question("年假几天", false)).json();
    assert_eq!(whole["data"]["choices"][0]["message"]["reasoning_content"], "用户问年假，需要查手册。");
}

#[test]
fn events_that_nobody_knows_are_passed_on_byte_for_byte() {
    let strange = "{\"b\" :1,\"a\":[ 1.50, \"\\u00e9\\/\" ],\"a\":2}";
    let upstream = Upstream::start(move |_, wire| {
        wire.stream();
        wire.chunk(format!("event: planFromTheFuture\ndata: {strange}\n\n"));
        wire.chunk(
            "event: answer\ndata: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\nevent: answer\ndata: [DONE]\n\n",
        );
        wire.finish();
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let events = home.start().browser().chat(&question("年假几天", true)).events();
    let passed = events.iter().find(|event| event.name == "planFromTheFuture").expect("it is passed on");
    assert_eq!(passed.data, strange);
}

#[test]
fn no_event_but_chunk_and_reasoning_has_a_content_key() {
    for file in [
        "v1_tool_call_detail_true.sse",
        "v1_interactive_userselect_detail_true.sse",
        "v1_midstream_error_detail_true.sse",
    ] {
        let home = Home::new(&[Agent::of("a", &Fixture::named(file).upstream())]);
        for event in home.start().browser().chat(&question("年假几天", true)).events() {
            let speaks = matches!(event.name.as_str(), "chunk" | "reasoning");
            assert_eq!(event.json().get("content").is_some(), speaks, "{file}: {event:?}");
        }
    }
}

#[test]
fn tools_and_pauses_reach_the_client_as_they_came() {
    for (file, wanted) in [
        ("v1_tool_call_detail_true.sse", &["toolCall", "toolParams", "toolParams", "toolResponse"][..]),
        ("v1_interactive_userselect_detail_true.sse", &["interactive"]),
        ("v1_detail_false_with_chattitle.sse", &["chatTitle"]),
    ] {
        let fixture = Fixture::named(file);
        let home = Home::new(&[Agent::of("a", &fixture.upstream())]);
        let events = home.start().browser().chat(&question("年假几天", true)).events();
        let recorded = String::from_utf8(fixture.bytes.clone()).expect("UTF-8");
        let passed: Vec<&Event> = events.iter().filter(|event| wanted.contains(&event.name.as_str())).collect();
        assert_eq!(passed.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), wanted, "{file}");
        for event in passed {
            assert!(
                recorded.contains(&format!("event: {}\ndata: {}\n\n", event.name, event.data)),
                "{file}: {event:?}"
            );
        }
    }
}

#[test]
fn a_failure_inside_a_stream_is_status_error_and_end_in_that_order() {
    let home = Home::new(&[Agent::of("a", &Fixture::named("v1_midstream_error_detail_true.sse").upstream())]);
    let answer = home.start().browser().chat(&question("年假几天", true));
    let events = answer.events();
    assert_eq!(names(&events)[events.len() - 3..], ["status", "error", "end"]);
    let status = events[events.len() - 3].json();
    assert_eq!((&status["type"], &status["status"]), (&json!("error"), &json!("error")));
    assert_eq!(events[events.len() - 2].json()["code"], "UPSTREAM_FAILED");
    assert_eq!(answer.answer(), "年假按工龄计算：满一年", "no sentence of ours behind the upstream's own text");
}

#[test]
fn a_client_that_does_not_stream_is_served_from_an_upstream_stream() {
    let upstream = Fixture::named("v1_workflow_detail_true_done_then_flowresponses.sse").upstream();
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let answer = node.browser().chat(&question("年假几天", false));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json();
    assert_eq!((&body["code"], &body["metadata"]["version"]), (&json!("SUCCESS"), &json!("1.0.0")));
    let data = &body["data"];
    let text = "年假按工龄计算：满一年五天，满十年十天。祝假期愉快 🏖️";
    assert_eq!((&data["content"], &data["choices"][0]["message"]["content"]), (&json!(text), &json!(text)));
    assert_eq!(
        (&data["chatId"], &data["id"], &data["object"]),
        (&json!("session_1"), &json!("1-a"), &json!("chat.completion"))
    );
    assert_eq!(data["usage"], json!({ "prompt_tokens": 268, "completion_tokens": 43, "total_tokens": 311 }));
    assert_eq!(data["newVariables"], json!({ "city": "Hangzhou", "visits": 3 }));
    assert_eq!(data["responseData"].as_array().map(Vec::len), Some(3));
    assert_eq!(upstream.asked()[0].body["stream"], true);
}

#[test]
fn an_upstream_that_answers_a_stream_with_plain_json_is_streamed_all_the_same() {
    let upstream = Fixture::named("v1_nonstream_detail_true.json").upstream();
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let answer = home.start().browser().chat(&question("年假几天", true));
    assert_eq!(answer.answer(), "年假按工龄计算：满一年五天，满十年十天。祝假期愉快 🏖️");
    let events = answer.events();
    let names = names(&events);
    assert_eq!(names[..2], ["chatId", "start"]);
    let at = |wanted: &str| names.iter().position(|name| *name == wanted);
    assert!(at("chunk") < at("flowResponses") && at("flowResponses") < at("end"), "{names:?}");
    assert_eq!(events.last().map(|end| end.json()["persisted"].clone()), Some(json!(true)));
}

#[test]
fn what_goes_upstream_has_our_ids_and_key_and_none_of_the_clients_credentials() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    for (name, value) in
        [("rootkey", "r"), ("token", "t"), ("userid", "u"), ("apikey", "k"), ("authorization", "Bearer mine")]
    {
        browser = browser.with(name, value);
    }
    for turn in ["t1", "t2"] {
        let mut body = question("年假几天", true);
        body["responseChatItemId"] = turn.into();
        body["variables"] = json!({ "city": "杭州" });
        body["appId"] = json!("ffffffffffffffffffffffff");
        assert_eq!(browser.chat(&body).answer(), "ok");
    }
    let asked = upstream.asked();
    for one in &asked {
        for name in ["rootkey", "token", "cookie", "userid", "apikey"] {
            assert_eq!(one.header(name), None, "{name}");
        }
        assert_eq!(one.header("authorization"), Some("Bearer fastgpt-testkey0123456789"));
        assert_eq!((one.method.as_str(), one.path.as_str()), ("POST", "/api/v1/chat/completions"));
        assert_eq!((&one.body["stream"], &one.body["detail"]), (&json!(true), &json!(true)));
        assert_eq!((one.field("appId"), &one.body["variables"]["city"]), ("6700aa00bb11cc22dd33ee10", &json!("杭州")));
        assert!(!one.field("customUid").is_empty());
        for id in ["chatId", "responseChatItemId"] {
            let id = one.field(id);
            assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        }
    }
    assert_eq!(asked[0].field("chatId"), asked[1].field("chatId"), "one conversation");
    assert_eq!(asked[0].field("customUid"), asked[1].field("customUid"), "one person");
    assert_ne!(asked[0].field("responseChatItemId"), asked[1].field("responseChatItemId"));
}

#[test]
fn an_upstreams_own_event_is_not_taken_for_one_of_ours() {
    let upstream = Upstream::start(|_, wire| {
        wire.stream();
        wire.chunk("event: end\ndata: {\"persisted\":true}\n\n");
        wire.chunk("event: note\ndata: {\"content\":\"not the answer\"}\n\n");
        wire.end();
    });
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let events = node.browser().chat(&question("hi", true)).events();
    assert_eq!(names(&events), ["chatId", "start", "upstream.end", "note", "status", "end"]);
    assert_eq!(events[2].data, "{\"persisted\":true}");
    assert_eq!(events[3].json(), json!({ "data": { "content": "not the answer" } }));
}

#[test]
fn fastgpt_is_told_where_a_question_comes_from_and_nobody_else_is() {
    let upstream = Upstream::saying("ok");
    let openai = Agent::of("o", &upstream).with("provider", "openai").with("model", "m").with("appId", "");
    let home = Home::new(&[Agent::of("a", &upstream), openai]);
    home.configure("server.trusted_proxies = [\"127.0.0.1\"]");
    let node = home.start();
    let person = node.browser().with("x-forwarded-for", "203.0.113.9").with("accept-language", "en-GB");
    let mut person = person.with("rootkey", "r").with("token", "t");
    person.chat(&question("hi", true));
    let mut body = question("hi", true);
    body["agentId"] = "o".into();
    person.chat(&body);
    node.browser().chat(&question("hi", true));
    let asked = upstream.wait_asked(3);
    for (name, told) in [
        ("x-forwarded-for", [Some("203.0.113.9"), None, Some("127.0.0.1")]),
        ("x-real-ip", [Some("203.0.113.9"), None, Some("127.0.0.1")]),
        ("accept-language", [Some("en-GB"), None, None]),
        ("rootkey", [None; 3]),
        ("token", [None; 3]),
        ("cookie", [None; 3]),
    ] {
        assert_eq!([0, 1, 2].map(|index: usize| asked[index].header(name)), told, "{name}");
    }
}

#[test]
fn what_reaches_fastgpt_is_what_was_recorded_but_for_what_is_ours() {
    let upstream = Upstream::saying("ok");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let files = ["simple_stream", "workflow_detail_stream", "multimodal", "continue_userselect", "continue_userinput"];
    for (index, file) in files.into_iter().enumerate() {
        let recorded: Value = serde_json::from_slice(&Fixture::named(&format!("req_{file}.json")).bytes).expect("JSON");
        let mut body = recorded.clone();
        body["agentId"] = "a".into();
        assert_eq!(node.browser().chat(&body).status, 200, "{file}");
        let asked = upstream.wait_asked(index + 1)[index].body.clone();
        let mut expected = recorded.clone();
        for ours in ["stream", "chatId", "responseChatItemId", "appId", "customUid"] {
            expected[ours] = asked[ours].clone();
            assert_ne!(recorded.get(ours), Some(&asked[ours]).filter(|_| ours != "stream"), "{file}: {ours} is ours");
        }
        assert_eq!(asked, expected, "{file}");
        assert_eq!(asked["stream"], true, "{file}");
    }
}
