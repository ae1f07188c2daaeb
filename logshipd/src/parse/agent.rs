//! User agents: what browser, system and device say of themselves.
//!
//! A small table of what a website sees most, not a data base: an agent that it does not know keeps its
//! text and gets no name. The last agents are kept with what they are, so most lines cost a comparison.

use memchr::memmem;

use crate::document::Document;

/// Agents that are kept: as many as a busy site sees in a minute, many times over.
const SLOTS: usize = 256;
/// Longer ones are looked at each time, so that the memory is bounded.
const KEPT_BYTES_MAX: usize = 512;

/// The last agents, each with the JSON that was written for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Agents {
    slots: Vec<Slot>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    agent: Box<[u8]>,
    json: Box<[u8]>,
}

/// Writes `user_agent.*`.
#[inline]
pub(super) fn write(to: &mut Document, agent: &[u8]) {
    if agent.len() > KEPT_BYTES_MAX {
        return look(to, agent);
    }
    let index = hash(agent) as usize % SLOTS;
    if let Some(slot) = to.agents.slots.get(index)
        && *slot.agent == *agent
    {
        to.json.extend_from_slice(&slot.json);
        return;
    }
    let mark = to.mark();
    look(to, agent);
    if mark > 0 {
        // The first field of a document would be kept with the brace before it.
        let json = to.json[mark..].into();
        to.agents.slots.resize_with(SLOTS, Slot::default);
        to.agents.slots[index] = Slot { agent: agent.into(), json };
    }
}

/// FNV-like over words of eight bytes; who finds two agents of one slot gains nothing.
fn hash(agent: &[u8]) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, tail) = agent.as_chunks::<8>();
    let mut hash = agent.len() as u64;
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(PRIME).rotate_left(29);
    }
    for &byte in tail {
        hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME).rotate_left(29);
    }
    hash ^ (hash >> 32)
}

fn look(to: &mut Document, agent: &[u8]) {
    to.text("user_agent.original", agent);
    // What follows the first kilobytes names nothing.
    let agent = &agent[..agent.len().min(2048)];
    let robot = ROBOTS.iter().find_map(|&(mark, name)| Some((name, after(agent, mark)?)));
    let browser = robot
        .or_else(|| BROWSERS.iter().find_map(|&(mark, name)| Some((name, after(agent, mark)?))));
    let browser = if browser.is_none() { safari(agent) } else { browser };
    if let Some((name, rest)) = browser {
        to.word("user_agent.name", name);
        to.text_of("user_agent.version", version(rest.strip_prefix(b"/").unwrap_or(rest)));
    } else if robot_of_its_own(agent) {
        to.word("user_agent.name", "Other bot");
    }
    system(to, agent);
    if robot.is_some_and(|(name, _)| !TOOLS.contains(&name)) || robot_of_its_own(agent) {
        to.word("user_agent.device.name", "Spider");
    } else if let Some(&(_, device)) =
        DEVICES.iter().find(|(mark, _)| after(agent, mark.as_bytes()).is_some())
    {
        to.word("user_agent.device.name", device);
    }
}

/// What is behind a mark.
fn after(agent: &[u8], mark: impl AsRef<[u8]>) -> Option<&[u8]> {
    let mark = mark.as_ref();
    memmem::find(agent, mark).map(|at| &agent[at + mark.len()..])
}

fn version(text: &[u8]) -> Option<&[u8]> {
    let is_part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'_');
    let length = text.iter().take_while(|byte| is_part(byte)).count();
    let text = &text[..length];
    let text = text.strip_suffix(b".").unwrap_or(text);
    (text.first().is_some_and(u8::is_ascii_digit)).then_some(text)
}

fn robot_of_its_own(agent: &[u8]) -> bool {
    ["bot", "Bot", "crawler", "Crawler", "spider", "Spider"]
        .iter()
        .any(|mark| after(agent, mark).is_some())
}

fn safari(agent: &[u8]) -> Option<(&'static str, &[u8])> {
    after(agent, "Safari/")?;
    let name = if after(agent, "Mobile/").is_some() { "Mobile Safari" } else { "Safari" };
    Some((name, after(agent, "Version/").unwrap_or_default()))
}

fn system(to: &mut Document, agent: &[u8]) {
    let Some((name, rest)) =
        SYSTEMS.iter().find_map(|&(mark, name)| Some((name, after(agent, mark)?)))
    else {
        return;
    };
    to.word("user_agent.os.name", name);
    let Some(version) = version(rest.trim_ascii_start()) else { return };
    let version = match (name, version) {
        ("Windows", b"6.1") => b"7".as_slice(),
        ("Windows", b"6.2") => b"8",
        ("Windows", b"6.3") => b"8.1",
        ("Windows", b"10.0") => b"10",
        _ => version,
    };
    let mut dotted = [0; 16];
    let length = version.len().min(dotted.len());
    for (to, from) in dotted.iter_mut().zip(version) {
        *to = if *from == b'_' { b'.' } else { *from };
    }
    to.text("user_agent.os.version", &dotted[..length]);
}

/// Programs that are no browsers but run by people.
const TOOLS: &[&str] =
    &["curl", "Wget", "Python Requests", "Go http client", "okhttp", "WordPress"];

const ROBOTS: &[(&str, &str)] = &[
    ("Googlebot-Image", "Googlebot-Image"),
    ("Googlebot", "Googlebot"),
    ("bingbot", "bingbot"),
    ("YandexBot", "YandexBot"),
    ("Baiduspider", "Baiduspider"),
    ("DuckDuckBot", "DuckDuckBot"),
    ("Applebot", "Applebot"),
    ("AhrefsBot", "AhrefsBot"),
    ("SemrushBot", "SemrushBot"),
    ("MJ12bot", "MJ12bot"),
    ("DotBot", "DotBot"),
    ("PetalBot", "PetalBot"),
    ("Bytespider", "Bytespider"),
    ("GPTBot", "GPTBot"),
    ("ClaudeBot", "ClaudeBot"),
    ("CCBot", "CCBot"),
    ("Amazonbot", "Amazonbot"),
    ("facebookexternalhit", "FacebookBot"),
    ("meta-externalagent", "FacebookBot"),
    ("Twitterbot", "Twitterbot"),
    ("LinkedInBot", "LinkedInBot"),
    ("UptimeRobot", "UptimeRobot"),
    ("Pingdom", "PingdomBot"),
    ("WordPress/", "WordPress"),
    ("curl/", "curl"),
    ("Wget/", "Wget"),
    ("python-requests/", "Python Requests"),
    ("Go-http-client/", "Go http client"),
    ("okhttp/", "okhttp"),
];

const BROWSERS: &[(&str, &str)] = &[
    ("EdgA/", "Edge Mobile"),
    ("Edg/", "Edge"),
    ("Edge/", "Edge"),
    ("OPR/", "Opera"),
    ("Opera/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("YaBrowser/", "Yandex Browser"),
    ("Vivaldi/", "Vivaldi"),
    ("HeadlessChrome/", "HeadlessChrome"),
    ("CriOS/", "Chrome Mobile iOS"),
    ("FxiOS/", "Firefox iOS"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("MSIE ", "IE"),
    ("Trident/", "IE"),
];

const SYSTEMS: &[(&str, &str)] = &[
    ("Windows NT", "Windows"),
    ("Windows Phone", "Windows Phone"),
    ("iPhone OS", "iOS"),
    ("CPU OS", "iOS"),
    ("Android", "Android"),
    ("Mac OS X", "Mac OS X"),
    ("CrOS", "Chrome OS"),
    ("FreeBSD", "FreeBSD"),
    ("Ubuntu", "Ubuntu"),
    ("Linux", "Linux"),
];

const DEVICES: &[(&str, &str)] = &[
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Macintosh", "Mac"),
    ("Mobile", "Generic Smartphone"),
    ("Android", "Generic Tablet"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(agent: &str) -> [String; 5] {
        let mut document = Document::default();
        document.long("first", 1);
        write(&mut document, agent.as_bytes());
        let mark = document.mark();
        write(&mut document, agent.as_bytes());
        assert_eq!(document.json[b"{\"first\":1,".len()..mark], document.json[mark..]);
        document.roll_back(mark);
        let json: serde_json::Value = serde_json::from_slice(document.finish()).unwrap();
        ["name", "version", "os.name", "os.version", "device.name"]
            .map(|key| json[format!("user_agent.{key}")].as_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn common_agents_are_known() {
        let check = |agent: &str, expected: [&str; 5]| assert_eq!(of(agent), expected, "{agent}");
        check(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
             Chrome/120.0.0.0 Safari/537.36",
            ["Chrome", "120.0.0.0", "Windows", "10", ""],
        );
        check(
            "Mozilla/5.0 (iPhone; CPU iPhone OS 16_5 like Mac OS X) AppleWebKit/605.1.15 \
             (KHTML, like Gecko) Version/16.5 Mobile/15E148 Safari/604.1",
            ["Mobile Safari", "16.5", "iOS", "16.5", "iPhone"],
        );
        check(
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:109.0) Gecko/20100101 Firefox/119.0",
            ["Firefox", "119.0", "Mac OS X", "10.15", "Mac"],
        );
        check(
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            ["Googlebot", "2.1", "", "", "Spider"],
        );
        check("curl/7.88.1", ["curl", "7.88.1", "", "", ""]);
        check("WordPress/6.7.1; https://example.org", ["WordPress", "6.7.1", "", "", ""]);
        check("SomethingBot/1.0", ["Other bot", "", "", "", "Spider"]);
        check("x\"\\\u{1}", [""; 5]);
    }
}
