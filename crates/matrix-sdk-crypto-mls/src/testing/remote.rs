//! A device in one process, its server in another: one line of JSON there, and one back.

mod messages;

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use matrix_sdk_crypto::types::requests::AnyOutgoingRequest as OlmRequest;
use ruma::OwnedEventId;

use self::messages::{Call, Reply};
pub(super) use self::messages::{Request, Response};
use super::{
    SentMessage, SimServer, SimSync,
    device::{SimDevice, SimDeviceBuilder},
    server::{Answer, DeviceName, OlmAnswer},
};
use crate::OutgoingRequest;

/// All that goes between a device and its server.
pub(super) trait Homeserver: Send + Sync {
    /// Answers an `OlmMachine`; `None` if the answer gets lost.
    fn answer_olm(&self, by: &DeviceName, request: &OlmRequest) -> Option<OlmAnswer>;
    /// Answers an `MlsMachine`.
    fn answer(&self, by: &DeviceName, request: &OutgoingRequest) -> Answer;
    /// What is new for a device.
    fn sync(&self, by: &DeviceName) -> SimSync;
    /// What [`Homeserver::sync`] gave last is done, and must not come again.
    fn has_synced(&self, by: &DeviceName);
    /// Takes a message, whose `event_id` is not known yet; an HTTP status if it is refused.
    fn send_message(
        &self,
        by: &DeviceName,
        message: SentMessage,
        content: serde_json::Value,
    ) -> Result<OwnedEventId, u16>;
}

/// Sends a line to the other process, and gives its answer.
type Line = Box<dyn FnMut(String) -> String + Send>;

/// A [`SimServer`] in another process, as its devices see it.
pub struct RemoteServer(Mutex<Remote>);

struct Remote {
    line: Line,
    synced: u64,
}

impl RemoteServer {
    /// `line` sends a line to the process in which a [`SimLink`] serves it, and gives its answer.
    /// `synced` is how many syncs are done, by what [`SimDevice::syncs_done`] said last.
    pub fn new(synced: u64, line: impl FnMut(String) -> String + Send + 'static) -> Self {
        Self(Mutex::new(Remote { line: Box::new(line), synced }))
    }

    /// The device that the [`SimLink`] is for.
    pub fn device(self, name: DeviceName) -> SimDeviceBuilder {
        SimDeviceBuilder::remote(name, self)
    }

    pub(super) fn synced(&self) -> u64 {
        self.remote().synced
    }

    fn remote(&self) -> std::sync::MutexGuard<'_, Remote> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, call: &Call) -> Reply {
        let mut remote = self.remote();
        let reply = (remote.line)(serde_json::to_string(call).expect("a call is JSON"));
        serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{error} in {reply}"))
    }
}

impl Homeserver for RemoteServer {
    fn answer_olm(&self, _: &DeviceName, request: &OlmRequest) -> Option<OlmAnswer> {
        match self.call(&Call::Olm(Request::of_olm(request)?)) {
            Reply::Olm(answer) => answer.map(Response::into_olm),
            other => panic!("not an answer: {other:?}"),
        }
    }

    fn answer(&self, _: &DeviceName, request: &OutgoingRequest) -> Answer {
        let id = request.request_id().to_owned();
        match self.call(&Call::Mls(id, Request::of_mls(request.request()))) {
            Reply::Done(response) => Answer::Done(response.into_mls()),
            Reply::Refused(status) => Answer::Refused(status),
            Reply::Unknown => Answer::Unknown,
            Reply::Late => Answer::Late,
            other => panic!("not an answer: {other:?}"),
        }
    }

    fn sync(&self, _: &DeviceName) -> SimSync {
        let since = self.synced();
        match self.call(&Call::Sync { since }) {
            Reply::Sync(sync) => *sync,
            other => panic!("not a sync: {other:?}"),
        }
    }

    fn has_synced(&self, _: &DeviceName) {
        self.remote().synced += 1;
    }

    fn send_message(
        &self,
        _: &DeviceName,
        message: SentMessage,
        content: serde_json::Value,
    ) -> Result<OwnedEventId, u16> {
        match self.call(&Call::Message(Box::new(message), content)) {
            Reply::Sent(result) => result,
            other => panic!("not an event: {other:?}"),
        }
    }
}

/// The server's end of the line to one device.
#[derive(Debug)]
pub struct SimLink {
    server: SimServer,
    device: DeviceName,
    /// How many syncs were given out, and the last one: until the device says that it is done, it
    /// comes again.
    syncs: u64,
    last: SimSync,
}

impl SimLink {
    /// A line to a device, which logs in with it.
    pub fn new(server: &SimServer, device: &DeviceName) -> Self {
        server.adds_device(device);
        let (server, device) = (server.clone(), device.clone());
        Self { server, device, syncs: 0, last: SimSync::default() }
    }

    /// Answers a line.
    pub fn serves(&mut self, line: &str) -> String {
        let call = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        serde_json::to_string(&self.reply(call)).expect("a reply is JSON")
    }

    fn reply(&mut self, call: Call) -> Reply {
        match call {
            Call::Olm(request) => Reply::Olm(self.server.answer_request(&self.device, request)),
            Call::Mls(id, request) => {
                match self.server.answer(&self.device, &request.into_mls(id)) {
                    Answer::Done(response) => Reply::Done(response.into()),
                    Answer::Refused(status) => Reply::Refused(status),
                    Answer::Unknown => Reply::Unknown,
                    Answer::Late => Reply::Late,
                }
            }
            Call::Sync { since } => {
                if since == self.syncs {
                    self.last = self.server.sync(&self.device);
                    self.syncs += 1;
                }
                assert_eq!(since + 1, self.syncs, "{:?} has forgotten syncs", self.device);
                Reply::Sync(Box::new(self.last.clone()))
            }
            Call::Message(message, content) => {
                Reply::Sent(self.server.send_message(&self.device, *message, content))
            }
        }
    }
}

impl SimDevice {
    /// How many syncs are done, for a device whose server is in another process: an application
    /// remembers it, so that it gets again what it had not done when it was killed.
    pub fn syncs_done(&self) -> u64 {
        self.remote().map_or(0, RemoteServer::synced)
    }
}

impl fmt::Debug for RemoteServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteServer").finish_non_exhaustive()
    }
}
