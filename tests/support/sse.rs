use serde_json::Value;

/// One server-sent event. Comments are dropped, as a browser drops them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: String,
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{}: {error}: {}", self.name, self.data))
    }

    /// Takes the first whole frame off `bytes`; `None` when there is none yet.
    pub(crate) fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        loop {
            let end = bytes.windows(2).position(|pair| pair == b"\n\n")? + 2;
            let frame: Vec<u8> = bytes.drain(..end).collect();
            let frame = String::from_utf8(frame).expect("frames are UTF-8");
            let (mut name, mut data) = (String::new(), Vec::new());
            for line in frame.lines() {
                match line.split_once(": ") {
                    Some(("event", value)) => value.clone_into(&mut name),
                    Some(("data", value)) => data.push(value),
                    _ => {}
                }
            }
            if !data.is_empty() {
                return Some(Self { name, data: data.join("\n") });
            }
        }
    }

    pub(crate) fn all(mut bytes: Vec<u8>) -> Vec<Self> {
        let events = std::iter::from_fn(|| Self::take(&mut bytes)).collect();
        assert!(bytes.is_empty(), "a frame is torn: {}", String::from_utf8_lossy(&bytes));
        events
    }
}
