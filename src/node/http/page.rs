//! The site for people: one page, its module and style, and what they ask: events as they come, tasks, and why.

use super::answer::{self, Answer, JSON};
use super::feed::{Feed, Viewer};
use super::json;
use super::server::{Line, Site};
use crate::core::ids::TaskId;
use crate::error::Error;
use crate::node::client::words;
use crate::node::shared::Shared;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, StreamBody};
use hyper::StatusCode;
use hyper::body::Frame;
use hyper::http::request::Parts;
use serde_json::json;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// The page's module; also the widget of notebooks.
pub const MODULE: &str = include_str!("page/view.js");
/// The page's style; also the widget's.
pub const STYLE: &str = include_str!("page/view.css");
const DOCUMENT: &str = include_str!("page/index.html");
const ICON: &str = include_str!("page/icon.svg");
/// How long a viewer may take over one message before it is let go.
const SLOW: Duration = Duration::from_secs(20);
/// How often a silent stream says that it is there.
const PULSE: Duration = Duration::from_secs(10);
/// Tasks of one list.
const LISTED: u32 = 100;
/// How long the cluster may take to answer a question.
const ASK_TTL: Duration = Duration::from_secs(5);

/// Answers browsers.
pub struct Page {
    feed: Arc<Feed>,
}

impl Page {
    /// For that node; inside TLS it asks with the certificate in `tls`.
    pub fn start(shared: Arc<Shared>, tls: Option<PathBuf>) -> Self {
        Page { feed: Feed::start(shared, tls) }
    }
}

impl Site for Page {
    fn answer(&self, request: Parts, line: Arc<Line>) -> BoxFuture<'static, Answer> {
        let feed = self.feed.clone();
        async move {
            match request.uri.path() {
                "/" => answer::whole("text/html; charset=utf-8", DOCUMENT),
                "/view.js" => answer::whole("text/javascript; charset=utf-8", MODULE),
                "/view.css" => answer::whole("text/css; charset=utf-8", STYLE),
                "/icon.svg" => answer::whole("image/svg+xml", ICON),
                "/events" => stream(&feed, line),
                "/tasks" => tasks(&feed, request.uri.query().unwrap_or("")).await,
                "/why" => why(&feed, request.uri.query().unwrap_or("")).await,
                _ => answer::not_found("/"),
            }
        }
        .boxed()
    }
}

/// Server-sent events (WHATWG HTML, section 9.2), one message at a time: the next is made when the last was taken.
fn stream(feed: &Arc<Feed>, line: Arc<Line>) -> Answer {
    let Some(mut viewer) = feed.seat() else {
        let text = format!("{} viewers watch this node already", super::feed::VIEWERS);
        return answer::sentence(StatusCode::SERVICE_UNAVAILABLE, text);
    };
    line.stream();
    let (messages, taken) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        loop {
            let message = next_message(&mut viewer, &messages).await;
            let Some(message) = message else { return };
            if tokio::time::timeout(SLOW, messages.send(message)).await.is_err() {
                return line.cut();
            }
        }
    });
    let frames = ReceiverStream::new(taken).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
    answer::of(StatusCode::OK, "text/event-stream", BodyExt::boxed(StreamBody::new(frames)))
}

/// `None`: the viewer has gone.
async fn next_message(viewer: &mut Viewer, messages: &mpsc::Sender<Bytes>) -> Option<Bytes> {
    tokio::select! {
        biased;
        () = messages.closed() => None,
        news = viewer.news() => Some(Bytes::from(format!("data: {news}\n\n"))),
        () = tokio::time::sleep(PULSE) => Some(Bytes::from_static(b":\n\n")),
    }
}

async fn tasks(feed: &Arc<Feed>, query: &str) -> Answer {
    let state = match parameter(query, "state") {
        None | Some("") => None,
        Some(word) => match words::state(word) {
            Ok(state) => Some(state),
            Err(error) => return bad(error.to_string()),
        },
    };
    let asked = feed.ask(|client| async move { client.tasks(state, LISTED, ASK_TTL).await });
    match asked.await {
        Ok(list) => {
            let tasks: Vec<_> = list.tasks.iter().map(json::task).collect();
            answer::whole(JSON, json!({ "tasks": tasks, "total": list.total }).to_string())
        }
        Err(error) => unanswered(&error),
    }
}

async fn why(feed: &Arc<Feed>, query: &str) -> Answer {
    let Some(task) = parameter(query, "task").and_then(task_id) else {
        return bad("task: give the id of a task, a UUID".to_owned());
    };
    let asked = feed.ask(|client| async move { client.explain(task, ASK_TTL).await });
    match asked.await {
        Ok(told) => answer::whole(JSON, json::explanation(&told).to_string()),
        Err(error) => unanswered(&error),
    }
}

fn bad(problem: String) -> Answer {
    answer::sentence(StatusCode::BAD_REQUEST, problem)
}

fn unanswered(error: &Error) -> Answer {
    answer::sentence(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

/// The plain value of a parameter: ids and words need no escapes.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name).map(|p| p.1)
}

fn task_id(text: &str) -> Option<TaskId> {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    let hex = |c: char| c == '-' || c.is_ascii_hexdigit();
    if groups != [8, 4, 4, 4, 12] || !text.chars().all(hex) {
        return None;
    }
    u128::from_str_radix(&text.replace('-', ""), 16).ok().map(TaskId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_ids_are_read_as_they_stand() {
        assert_eq!(parameter("a=1&task=x&task=y", "task"), Some("x"));
        assert_eq!(parameter("task", "task"), None);
        let text = "0199c1f0-1d2b-7abc-8def-0123456789ab";
        assert_eq!(task_id(text).map(|id| id.to_string()).as_deref(), Some(text));
        for bad in [
            "",
            "-",
            "0199c1f0",
            "0199c1f01d2b7abc8def0123456789ab",
            "+199c1f0-1d2b-7abc-8def-0123456789ab",
        ] {
            assert_eq!(task_id(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_page_has_nothing_inline_and_builds_text_only() {
        for inline in
            ["<style", "style=", "onclick", "onload", "javascript:", "http://", "https://"]
        {
            assert!(!DOCUMENT.contains(inline), "{inline}");
        }
        assert_eq!(DOCUMENT.matches("<script").count(), 1);
        assert!(DOCUMENT.contains("<script type=\"module\" src=\"/view.js\"></script>"));
        let builds = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
        ];
        for markup in builds {
            assert!(!MODULE.contains(markup), "{markup}");
        }
    }
}
