use crate::protocol::answer::Usage;
use serde_json::Value;

/// Wrappers of interactive nodes nest up to 20; nothing honest is deeper than this.
const DEPTH_MAX: usize = 32;

/// What the node responses of a run add up to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    pub(super) usage: Option<Usage>,
    /// Some node says that it failed.
    pub(super) failed: bool,
}

impl Run {
    /// Adds one node response, or an array of them.
    pub(super) fn read(&mut self, json: &[u8]) {
        // Details that are no JSON are passed on as they are and count for nothing.
        if let Ok(value) = serde_json::from_slice::<Value>(json) {
            self.add(&value, 0);
        }
    }

    pub(super) fn add(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Array(nodes) => nodes.iter().for_each(|node| self.add(node, depth)),
            Value::Object(node) if depth < DEPTH_MAX => {
                let tokens = |keys: [&str; 2]| {
                    keys.iter().filter_map(|key| node.get(*key)?.as_u64()).reduce(u64::saturating_add)
                };
                let asked = tokens(["inputTokens", "toolCallInputTokens"]);
                let answered = tokens(["outputTokens", "toolCallOutputTokens"]);
                if asked.is_some() || answered.is_some() {
                    let usage = self.usage.get_or_insert_default();
                    usage.prompt_tokens = usage.prompt_tokens.saturating_add(asked.unwrap_or(0));
                    usage.completion_tokens = usage.completion_tokens.saturating_add(answered.unwrap_or(0));
                }
                self.failed |= ["error", "errorText"].iter().any(|key| node.get(*key).is_some_and(says_something));
                // `toolDetail`, `pluginDetail`, `loopDetail`, and those of later versions.
                let inner = node.iter().filter(|(key, _)| key.ends_with("Detail") || *key == "childrenResponses");
                inner.for_each(|(_, nodes)| self.add(nodes, depth + 1));
            }
            _ => {}
        }
    }
}

fn says_something(error: &Value) -> bool {
    match error {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::Array(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_add_up_over_nested_runs() {
        let mut run = Run::default();
        run.read(br#"[{"inputTokens":3,"outputTokens":1,"pluginDetail":[{"inputTokens":10,"toolDetail":[{"toolCallOutputTokens":5}]}]},{"moduleName":"x"}]"#);
        assert_eq!(run.usage, Some(Usage { prompt_tokens: 13, completion_tokens: 6 }));
        assert!(!run.failed);
    }

    #[test]
    fn a_run_without_tokens_has_no_usage_and_a_failed_node_shows_at_any_depth() {
        let mut run = Run::default();
        run.read(br#"{"loopDetail":[{"errorText":"boom"}],"error":""}"#);
        assert_eq!(run.usage, None);
        assert!(run.failed);
    }

    #[test]
    fn depth_is_bounded() {
        let deep = r#"{"toolDetail":["#.repeat(60) + &"]}".repeat(60);
        Run::default().read(deep.as_bytes());
    }
}
