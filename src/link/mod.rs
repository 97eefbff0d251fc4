//! rumqttc on its own thread between two bounded channels.
//!
//! The thread `mqtt` owns a private tokio runtime and one MQTT session at a time. The session is disposable: it
//! starts clean, hands the broker never more than the window, and on any error (or when nothing is heard for one and a
//! half keep-alives) client and event loop are thrown away and built anew, TLS files read again, after a wait with full
//! jitter. Nothing is kept across sessions: what had no [`LinkEvent::Done`] before [`LinkEvent::Down`] is unknown and
//! the seat sends it again.
//!
//! Every publish with a token gets exactly one `Done` within its session, with the broker's reason code, or none at all
//! and a `Down`. Messages from the broker are acknowledged when they enter the event channel, so that a slow seat slows
//! the broker down: to [`crate::limits::LINK_RECEIVE_MAX`] messages under way, or, where a broker does not heed that, by leaving the
//! socket unread once [`crate::limits::LINK_MESSAGES_MAX`] wait. Only a seat that takes nothing for half a keep-alive loses messages.

mod connect;
pub mod cost;
mod dialect;
mod explain;
mod reason;
mod session;

pub use reason::{Reason, Refusal, from_3_1_1, reason};

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;

use crate::clock;
use crate::limits::{BLOCK_BYTES_MAX, CERTIFICATES_EVERY, LINK_CHANNEL_MAX};
use crate::observe::{self, link::LineDown};
use crate::reading::named_enum;
use crate::sync::backoff::{Backoff, BackoffOptions};
use crate::sync::uplink::Audience;
use crate::tls::{Peer, TlsFiles};
use explain::Fault;
use session::{End, Session};

named_enum! {
    /// The version of MQTT that is spoken.
    #[derive(Default)]
    Protocol {
        /// MQTT 5.
        #[default]
        V5 = "5",
        /// MQTT 3.1.1, for brokers that know nothing newer. It carries no reason codes and no mark `historical`.
        V311 = "3.1.1",
    }
}

impl Protocol {
    fn in_words(self) -> String {
        format!("MQTT {}", self.name())
    }
}

/// Where to connect and as whom.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// DNS name or IPv4 address of the broker.
    pub host: String,
    /// Port; by custom 8883 with TLS, 1883 without.
    pub port: u16,
    /// Version of MQTT; default 5.
    pub protocol: Protocol,
    /// Path of the broker's WebSocket, such as `/mqtt`; `None`: MQTT on TCP or TLS itself. Needs the feature `websocket`.
    pub websocket: Option<String>,
    /// MQTT client identifier; two connections with the same one throw each other out.
    pub client_id: String,
    /// Certificates; `None` means plaintext.
    pub tls: Option<TlsFiles>,
    /// How often a session looks whether the files in `tls` have changed; with new ones that are in order it ends
    /// politely and connects again. Default 1 min.
    pub certificates_every: Duration,
    /// Longest silence, 5 to 65 535 s; default 30 s. The broker may shorten it.
    pub keep_alive: Duration,
    /// What the broker says when we vanish.
    pub will: Option<Will>,
    /// Published at every connection, before [`LinkEvent::Up`].
    pub on_up: Option<Announcement>,
    /// Published before an orderly end, after which the will is not.
    pub on_stop: Option<Announcement>,
    /// Topic filters, subscribed at QoS 1 at every connection.
    pub subscriptions: Vec<String>,
    /// Waits between attempts.
    pub backoff: BackoffOptions,
    /// Largest packet accepted from the broker, in bytes; default a block and its headers.
    pub packet_bytes_max: u32,
    /// Publishes at QoS 1 without PUBACK, at most; the broker's receive maximum lowers it. Default 64.
    pub window: u16,
}

impl LinkOptions {
    /// Defaults for everything but the address and the name.
    pub fn new(host: impl Into<String>, port: u16, client_id: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port,
            protocol: Protocol::default(),
            websocket: None,
            client_id: client_id.into(),
            tls: None,
            certificates_every: CERTIFICATES_EVERY,
            keep_alive: Duration::from_secs(30),
            will: None,
            on_up: None,
            on_stop: None,
            subscriptions: Vec::new(),
            backoff: BackoffOptions::default(),
            packet_bytes_max: BLOCK_BYTES_MAX as u32 + 4096,
            window: 64,
        }
    }

    /// Whom a failed connection is told of.
    pub fn peer(&self) -> Peer<'_> {
        Peer { host: &self.host, port: self.port, files: self.tls.as_ref() }
    }
}

/// A retained message at QoS 1, such as `online` on the state topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
}

/// A retained message at QoS 1 that the broker publishes when the connection is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// What it says.
    pub say: Announcement,
    /// How long the broker waits for us to come back; whole seconds. It also keeps the (empty) session that long,
    /// since without a session a will is not delayed.
    pub delay: Duration,
}

/// Quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// QoS 0: done when written.
    AtMostOnce,
    /// QoS 1: done with the broker's PUBACK.
    AtLeastOnce,
}

/// One message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Comes back in [`LinkEvent::Done`]; `None` when nobody wants to know.
    pub token: Option<u64>,
    /// Topic.
    pub topic: String,
    /// Payload; its memory is handed on, not copied.
    pub payload: Vec<u8>,
    /// Quality of service.
    pub qos: Qos,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// Says so in the user property `historical: 1`.
    pub historical: bool,
    /// MIME type, if it helps the receiver.
    pub content_type: Option<&'static str>,
}

/// What a seat wants of its link.
#[derive(Debug, Clone)]
pub enum Command {
    /// Publish; forgotten when the line is down.
    Publish(Publish),
    /// End the session and go on with these options.
    Reconfigure(Box<LinkOptions>),
    /// Wait for what is in flight (2 s at most), announce the end, disconnect in order and end the thread.
    Stop,
}

/// What a link tells its seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// Connected, subscribed and announced.
    Up {
        /// Publishes without PUBACK that the broker allows, ours included.
        receive_max: u16,
        /// Largest packet that the broker accepts, in bytes.
        packet_bytes_max: u32,
    },
    /// Not connected. Told at every failed attempt too.
    Down {
        /// In plain words, with the next step where there is one.
        reason: String,
        /// When the next attempt begins.
        retry_in: Duration,
        /// The MQTT 5 reason code if the broker ended the session and that may have been about a publish; unspecified error
        /// (0x80) where it said nothing.
        by_broker: Option<u8>,
    },
    /// A publish has been answered.
    Done {
        /// Of the publish.
        token: u64,
        /// Whether the broker took it, and for whom.
        result: Result<Audience, Refusal>,
    },
    /// A message from the broker.
    Message {
        /// Topic, valid UTF-8.
        topic: String,
        /// Payload.
        payload: Vec<u8>,
        /// Whether the user property `historical` is set.
        historical: bool,
    },
}

/// A running link.
#[derive(Debug)]
pub struct Link {
    /// To the thread; bounded, a full one means that the line is slower than the seat.
    pub commands: Sender<Command>,
    /// From the thread; bounded.
    pub events: Receiver<LinkEvent>,
    /// Ends after [`Command::Stop`], or when either channel is dropped.
    pub join: JoinHandle<()>,
}

/// Starts the thread `mqtt`. It connects at once.
pub fn spawn(options: LinkOptions) -> io::Result<Link> {
    let (commands, commands_rx) = smol::channel::bounded(LINK_CHANNEL_MAX);
    let (events_tx, events) = smol::channel::bounded(LINK_CHANNEL_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || runtime.block_on(run(options, commands_rx, events_tx));
    let join = thread::Builder::new().name("mqtt".into()).spawn(run)?;
    Ok(Link { commands, events, join })
}

async fn run(mut options: LinkOptions, commands: Receiver<Command>, events: Sender<LinkEvent>) {
    let mut rng = fastrand::Rng::new();
    let mut backoff = Backoff::new(options.backoff);
    loop {
        let begun = clock::mono();
        let mut session = Session::new(&options, &commands, &events);
        let end = session.live().await;
        let was_up = session.was_up();
        drop(session);
        let Fault { cause, reason, by_broker } = match end {
            End::Stopped => return,
            End::Reconfigured(new) => {
                options = *new;
                backoff = Backoff::new(options.backoff);
                Fault::line("new configuration")
            }
            End::Renewed => Fault::line("new certificates"),
            End::Failed(fault) => fault,
        };
        if was_up {
            backoff.lived(clock::mono().since(begun));
        }
        let retry_in = backoff.failed(cause, &mut rng);
        observe::emit(&LineDown { reason: &reason, retry_in, was_up });
        if events.send(LinkEvent::Down { reason, retry_in, by_broker }).await.is_err() {
            return;
        }
        match pause(retry_in, &commands).await {
            Paused::Over => {}
            Paused::Stopped => return,
            Paused::Reconfigured(new) => {
                options = *new;
                backoff = Backoff::new(options.backoff);
            }
        }
    }
}

enum Paused {
    Over,
    Stopped,
    Reconfigured(Box<LinkOptions>),
}

/// Waits between sessions; publishes that come meanwhile belong to no session and are forgotten.
async fn pause(wait: Duration, commands: &Receiver<Command>) -> Paused {
    let over = async {
        tokio::time::sleep(wait).await;
        Paused::Over
    };
    let told = async {
        loop {
            match commands.recv().await {
                Ok(Command::Publish(_)) => {}
                Ok(Command::Reconfigure(new)) => return Paused::Reconfigured(new),
                Ok(Command::Stop) | Err(_) => return Paused::Stopped,
            }
        }
    };
    told.or(over).await
}
