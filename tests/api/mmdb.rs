//! Writes tiny databases of places, in the form that the usual ones have (`MaxMind` DB 2.0, IPv4, records of 24 bits).

use std::net::Ipv4Addr;

/// Between the tree and the data.
const GAP: u32 = 16;
const MARK: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// A value of a record.
pub(crate) enum Item {
    Text(String),
    Short(u16),
    Number(u32),
    Long(u64),
    Map(Vec<(&'static str, Item)>),
    List(Vec<Item>),
}

pub(crate) fn text(text: &str) -> Item {
    Item::Text(text.to_owned())
}

/// What is said of an address: a country, and a province by its names in languages.
pub(crate) fn place(country: &str, province: &[(&'static str, &str)]) -> Item {
    let mut fields = vec![("country", Item::Map(vec![("iso_code", text(country))]))];
    if !province.is_empty() {
        let names = province.iter().map(|(language, name)| (*language, text(name))).collect();
        fields.push(("subdivisions", Item::List(vec![Item::Map(vec![("names", Item::Map(names))])])));
    }
    Item::Map(fields)
}

impl Item {
    fn write(&self, into: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                head(2, text.len(), into);
                into.extend_from_slice(text.as_bytes());
            }
            Self::Short(number) => {
                head(5, 2, into);
                into.extend_from_slice(&number.to_be_bytes());
            }
            Self::Number(number) => {
                head(6, 4, into);
                into.extend_from_slice(&number.to_be_bytes());
            }
            Self::Long(number) => {
                head(9, 8, into);
                into.extend_from_slice(&number.to_be_bytes());
            }
            Self::Map(fields) => {
                head(7, fields.len(), into);
                for (name, value) in fields {
                    head(2, name.len(), into);
                    into.extend_from_slice(name.as_bytes());
                    value.write(into);
                }
            }
            Self::List(items) => {
                head(11, items.len(), into);
                for item in items {
                    item.write(into);
                }
            }
        }
    }
}

/// The kind and the length of what follows.
fn head(kind: u8, length: usize, into: &mut Vec<u8>) {
    let length = u8::try_from(length).expect("it is small");
    let (size, more) = if length < 29 { (length, None) } else { (29, Some(length - 29)) };
    if kind < 8 {
        into.push((kind << 5) | size);
    } else {
        into.extend([size, kind - 7]);
    }
    into.extend(more);
}

/// A database that knows the places of some networks, each an address and the bits of it that count.
pub(crate) fn database(networks: &[(Ipv4Addr, u32, Item)]) -> Vec<u8> {
    // Two branches each: another node, a place in the data, or nothing.
    let mut nodes: Vec<[Branch; 2]> = vec![[Branch::Nothing; 2]];
    let mut data = Vec::new();
    for (address, bits, item) in networks {
        let offset = u32::try_from(data.len()).expect("it is small");
        item.write(&mut data);
        let mut node = 0;
        for bit in 0..*bits {
            let side = usize::from((address.to_bits() << bit) >> 31 == 1);
            if bit + 1 == *bits {
                nodes[node][side] = Branch::Data(offset);
            } else if let Branch::Node(next) = nodes[node][side] {
                node = next;
            } else {
                nodes.push([Branch::Nothing; 2]);
                let next = nodes.len() - 1;
                nodes[node][side] = Branch::Node(next);
                node = next;
            }
        }
    }
    let count = u32::try_from(nodes.len()).expect("they are few");
    let mut file = Vec::new();
    for branch in nodes.iter().flatten() {
        let value = match branch {
            Branch::Nothing => count,
            Branch::Node(next) => u32::try_from(*next).expect("they are few"),
            Branch::Data(offset) => count + GAP + offset,
        };
        file.extend_from_slice(&value.to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend_from_slice(MARK);
    let metadata = Item::Map(vec![
        ("node_count", Item::Number(count)),
        ("record_size", Item::Short(24)),
        ("ip_version", Item::Short(4)),
        ("database_type", text("Test-City")),
        ("languages", Item::List(vec![text("en")])),
        ("binary_format_major_version", Item::Short(2)),
        ("binary_format_minor_version", Item::Short(0)),
        ("build_epoch", Item::Long(1)),
        ("description", Item::Map(vec![("en", text("for tests"))])),
    ]);
    metadata.write(&mut file);
    file
}

#[derive(Clone, Copy)]
enum Branch {
    Nothing,
    Node(usize),
    Data(u32),
}

/// Places of addresses that are kept for documentation, so that none of them is anybody's.
pub(crate) fn of_documentation() -> Vec<u8> {
    database(&[
        (Ipv4Addr::new(192, 0, 2, 0), 24, place("CN", &[("en", "Zhejiang"), ("zh-CN", "浙江省")])),
        (Ipv4Addr::new(198, 51, 100, 0), 25, place("CN", &[("en", "Beijing")])),
        (Ipv4Addr::new(198, 51, 100, 128), 25, place("CN", &[])),
        (Ipv4Addr::new(203, 0, 113, 0), 24, place("DE", &[("en", "Bavaria")])),
    ])
}
