//! How to reach an actor whoever it currently is: a port stays when the actor behind it dies and is built anew.
//!
//! actix's own supervisor does not bring back an actor whose handler panicked (its address is closed for good), and its mailboxes have no public
//! length; so the node re-points a port, and messages are counted on their way in and out.

use std::fmt;

use actix::dev::SendError;
use actix::{Message, Recipient};
use prometheus::IntGauge;
use tokio::sync::watch;

/// The way to one actor for one kind of message.
pub struct Port<M: Message<Result = ()> + Send + 'static> {
    recipient: watch::Sender<Option<Recipient<Envelope<M>>>>,
    depth: IntGauge,
}

// By hand, because a derive would ask the same of the message.
impl<M: Message<Result = ()> + Send + 'static> Clone for Port<M> {
    fn clone(&self) -> Self {
        Self { recipient: self.recipient.clone(), depth: self.depth.clone() }
    }
}

impl<M: Message<Result = ()> + Send + 'static> fmt::Debug for Port<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("waiting", &self.depth.get()).finish_non_exhaustive()
    }
}

/// A message on its way through a port.
#[derive(Debug)]
pub struct Envelope<M> {
    /// What was sent.
    pub message: M,
    _waiting: Waiting,
}

impl<M: Message<Result = ()>> Message for Envelope<M> {
    type Result = ();
}

/// Counts as long as the message waits or is handled.
#[derive(Debug)]
struct Waiting(IntGauge);

impl Waiting {
    fn begin(depth: &IntGauge) -> Self {
        depth.inc();
        Self(depth.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl<M: Message<Result = ()> + Send + 'static> Port<M> {
    /// A port with nobody behind it yet; `depth` counts the messages that wait.
    pub fn new(depth: IntGauge) -> Self {
        Self { recipient: watch::Sender::new(None), depth }
    }

    /// Puts an actor behind the port.
    pub fn connect(&self, recipient: Recipient<Envelope<M>>) {
        self.recipient.send_replace(Some(recipient));
    }

    /// Puts the message into the actor's mailbox, waiting for an actor if there is none at the moment. Messages of one sender stay in order.
    pub async fn deliver(&self, message: M) {
        let mut changes = self.recipient.subscribe();
        let mut envelope = Envelope { message, _waiting: Waiting::begin(&self.depth) };
        loop {
            let recipient = changes.borrow_and_update().clone();
            if let Some(recipient) = recipient {
                match recipient.try_send(envelope) {
                    Ok(()) => return,
                    Err(SendError::Closed(returned)) => envelope = returned,
                    Err(SendError::Full(returned)) => {
                        // The mailbox has room for all that the in-flight budget lets in, so this is a burst of requests: wait for room. If the
                        // actor dies meanwhile, the message is lost as all in its mailbox are, and its sender sees the dropped reply.
                        let _ = recipient.send(returned).await;
                        return;
                    }
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix::{Actor, Context, Handler};
    use tokio::sync::mpsc;

    #[derive(Debug, Message)]
    #[rtype(result = "()")]
    struct Number(u32);

    struct Listener(mpsc::Sender<u32>);

    impl Actor for Listener {
        type Context = Context<Self>;
    }

    impl Handler<Envelope<Number>> for Listener {
        type Result = ();

        fn handle(&mut self, envelope: Envelope<Number>, _: &mut Self::Context) {
            let Number(number) = envelope.message;
            assert_ne!(number, 13, "unlucky");
            self.0.try_send(number).unwrap();
        }
    }

    #[actix::test]
    async fn a_port_outlives_the_actor_behind_it() {
        let depth = IntGauge::new("depth", "waiting").unwrap();
        let port = Port::new(depth.clone());
        let (heard, mut hears) = mpsc::channel(8);
        port.connect(Listener(heard.clone()).start().recipient());
        port.deliver(Number(1)).await;
        assert_eq!(hears.recv().await, Some(1));
        port.deliver(Number(13)).await;
        while depth.get() > 0 {
            tokio::task::yield_now().await;
        }
        let waits = actix::spawn({
            let port = port.clone();
            async move { port.deliver(Number(2)).await }
        });
        tokio::task::yield_now().await;
        port.connect(Listener(heard).start().recipient());
        waits.await.unwrap();
        assert_eq!(hears.recv().await, Some(2));
        assert_eq!(depth.get(), 0);
    }
}
