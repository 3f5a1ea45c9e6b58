//! What functions ask the master over the native wire: numbered requests, and who waits for each answer.

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use bytes::Bytes;
use proto::message::{MAX_LOAD, Reply};
use proto::msgpack;
use proto::value::{Map, MapExt, Value};

use crate::modules::AskError;

/// Questions under way at once: some for each job that may run. One more is refused.
const MAX_ASKED: usize = 128;

/// One question of a function.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) cmd: String,
    pub(super) fields: Map,
    /// How long somebody waits for the answer.
    pub(super) until: Instant,
    pub(super) answer: SyncSender<Result<Value, AskError>>,
}

/// Who waits for which answer.
#[derive(Debug, Default)]
pub(super) struct Asked {
    waiting: HashMap<u64, (Instant, SyncSender<Result<Value, AskError>>)>,
}

impl Asked {
    /// Notes a question, and returns what is to be sent; nothing if it cannot be asked, which its asker then knows.
    pub(super) fn ask(&mut self, seq: u64, question: Question, now: Instant) -> Option<Bytes> {
        let Question { cmd, mut fields, until, answer } = question;
        self.waiting.retain(|_, (until, _)| *until > now);
        if self.waiting.len() >= MAX_ASKED {
            tell(&answer, Err(AskError::Refused("too many requests of this minion are under way".to_owned())));
            return None;
        }
        fields.set("cmd", cmd);
        fields.set("seq", seq);
        let load = msgpack::encode_map(&fields);
        if load.len() > MAX_LOAD {
            tell(&answer, Err(AskError::Refused(format!("a request has at most {MAX_LOAD} bytes"))));
            return None;
        }
        self.waiting.insert(seq, (until, answer));
        Some(load.into())
    }

    /// Hands an answer to whoever waits for it. Gives it back if nobody does.
    pub(super) fn answer(&mut self, reply: Reply) -> Option<Reply> {
        let Some((_, answer)) = self.waiting.remove(&reply.seq) else { return Some(reply) };
        tell(&answer, reply.result.map_err(|(code, reason)| AskError::Refused(words(code.name(), &reason))));
        None
    }

    /// Tells everybody that there will be no answer: the session has ended.
    pub(super) fn lost(&mut self) {
        self.waiting.drain().for_each(|(_, (_, answer))| tell(&answer, Err(AskError::NotConnected)));
    }
}

/// Tells whoever asked, unless they have given up.
pub(super) fn tell(answer: &SyncSender<Result<Value, AskError>>, result: Result<Value, AskError>) {
    let _ = answer.try_send(result);
}

fn words(code: &str, reason: &str) -> String {
    if reason.is_empty() { code.to_owned() } else { reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::map;
    use proto::message::{ErrorCode, Request};
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::time::Duration;

    fn question(wait: Duration) -> (Question, Receiver<Result<Value, AskError>>) {
        let (answer, answered) = sync_channel(1);
        let fields = map! { "path" => "top.sls", "seq" => "theirs" };
        (Question { cmd: "_file_hash".to_owned(), fields, until: Instant::now() + wait, answer }, answered)
    }

    #[test]
    fn each_answer_goes_to_who_asked() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        let (first, second) = (question(Duration::from_secs(9)), question(Duration::from_secs(9)));
        let load = asked.ask(3, first.0, now).expect("sent");
        asked.ask(4, second.0, now).expect("sent");
        let Ok(Request::Other { seq: 3, cmd, .. }) = Request::decode(&load) else { panic!("{load:?}") };
        assert_eq!(cmd, "_file_hash");
        let refused = Reply { seq: 4, result: Err((ErrorCode::NotFound, "no such file".to_owned())) };
        assert_eq!(asked.answer(refused.clone()), None);
        assert_eq!(asked.answer(refused.clone()), Some(refused));
        assert_eq!(asked.answer(Reply { seq: 3, result: Ok(7.into()) }), None);
        assert_eq!(first.1.try_recv(), Ok(Ok(7.into())));
        assert_eq!(second.1.try_recv(), Ok(Err(AskError::Refused("no such file".to_owned()))));
    }

    #[test]
    fn a_lost_session_answers_everybody() {
        let mut asked = Asked::default();
        let (asking, answered) = question(Duration::from_secs(9));
        asked.ask(1, asking, Instant::now());
        asked.lost();
        assert_eq!(answered.try_recv(), Ok(Err(AskError::NotConnected)));
    }

    #[test]
    fn one_question_too_many_is_refused_until_another_has_run_out() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        let all: Vec<_> = (0..MAX_ASKED as u64).map(|seq| (seq, question(Duration::from_secs(9)))).collect();
        let waiting: Vec<_> =
            all.into_iter().map(|(seq, (asking, told))| (asked.ask(seq, asking, now), told)).collect();
        assert!(waiting.iter().all(|(sent, _)| sent.is_some()));
        let (asking, told) = question(Duration::from_secs(9));
        assert_eq!(asked.ask(999, asking, now), None);
        assert!(matches!(told.try_recv(), Ok(Err(AskError::Refused(_)))));
        let (asking, _told) = question(Duration::from_secs(99));
        assert!(asked.ask(1_000, asking, now + Duration::from_secs(60)).is_some());
    }
}
