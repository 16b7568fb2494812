//! Trainer's second half: counts pairs of products for the layers of the lambda view, on a thread of its own, so that a stream window never waits
//! for a training.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use actix::{AsyncContext, Context, Handler, Message, WrapFuture};

use super::Trainer;
use crate::actors::messages::{CountPairs, Layer, NewLayer, PublishLayer};
use crate::actors::port::Envelope;
use crate::actors::shared::Live;
use crate::actors::worker::Panicked;
use crate::also_bought::Settings;
use crate::also_bought::count::Cancelled;
use crate::also_bought::kappa::Kappa;
use crate::interests::base::Base;

/// So many jobs wait at most; when it is too many for this machine, the oldest stream windows are given up.
const MOST_WAITING: usize = 8;

/// A layer, and the lists in it in the form that the next ones begin from, where they are over all interests.
type Lists = (NewLayer, Option<Arc<Kappa>>);

/// From the thread that counts.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Counted {
    outcome: Result<Result<Lists, Cancelled>, Panicked>,
    offset: u64,
    waiters: Vec<tokio::sync::oneshot::Sender<u64>>,
}

/// Counting pairs over all interests, with what it needs.
#[derive(Debug)]
pub(super) struct KappaJob {
    pub(super) base: Arc<Base>,
    pub(super) before: Option<Arc<Kappa>>,
    pub(super) settings: Settings,
    pub(super) live: Arc<Live>,
    pub(super) cancel: Arc<AtomicBool>,
}

impl KappaJob {
    /// The lists as of the base; runs on the current pool.
    pub(super) fn run(&self) -> Result<Arc<Kappa>, Cancelled> {
        let ids = self.live.read(|counters| counters.products().list().prefix(self.base.products()));
        Kappa::compute(&self.base, &ids, self.settings, self.before.as_deref(), &self.cancel).map(Arc::new)
    }
}

impl Trainer {
    fn count_next(&mut self, context: &mut Context<Self>) {
        let Some(CountPairs { layer, offset, waiters }) = self.pairs_waiting.pop_front() else { return };
        self.counting = true;
        let (pool, live, cancel) =
            (Arc::clone(&self.around.pool), Arc::clone(&self.around.live), Arc::clone(&self.cancel.0));
        let settings = self.around.served.recipe().also_bought;
        let (before, metrics) = (self.lists_before(), Arc::clone(&self.around.metrics));
        let job = move || {
            let _timer = metrics.also_bought_seconds.start_timer();
            pool.install(|| match layer {
                Layer::Stream(ended) => {
                    metrics.stream_events_skipped.inc_by(ended.skipped);
                    let ids = live.read(|counters| counters.products().list().clone());
                    let lists = ended.join(&ids, settings.max_products_per_user, &cancel)?;
                    Ok((NewLayer::Stream(lists), None))
                }
                Layer::Forgotten(products) => Ok((NewLayer::Forgotten(products), None)),
                Layer::Batch(base) => {
                    let kappa = KappaJob { base, before, settings, live, cancel }.run()?;
                    Ok((NewLayer::Batch(kappa.table().clone()), Some(kappa)))
                }
                Layer::Sum(base) => {
                    let kappa = KappaJob { base, before, settings, live, cancel }.run()?;
                    Ok((NewLayer::Sum(kappa.table().clone()), Some(kappa)))
                }
            })
        };
        let address = context.address();
        self.pairs_worker.run(job, move |outcome| {
            // Where an actor died meanwhile, the next window or batch makes up for it.
            let _ = address.try_send(Counted { outcome, offset, waiters });
        });
    }

    /// Puts a job into the queue; a later batch or sum covers what an earlier one that still waits would have.
    fn enqueue(&mut self, mut job: CountPairs) {
        let same = |waiting: &CountPairs| {
            matches!((&waiting.layer, &job.layer), (Layer::Batch(_), Layer::Batch(_)) | (Layer::Sum(_), Layer::Sum(_)))
        };
        if let Some(mut earlier) = self.pairs_waiting.iter().position(same).and_then(|at| self.pairs_waiting.remove(at))
        {
            job.waiters.append(&mut earlier.waiters);
        }
        self.pairs_waiting.push_back(job);
        let stream = |waiting: &CountPairs| matches!(waiting.layer, Layer::Stream(_));
        if self.pairs_waiting.len() > MOST_WAITING
            && let Some(oldest) = self.pairs_waiting.iter().position(stream)
        {
            self.pairs_waiting.remove(oldest);
            tracing::warn!(
                "stream windows come faster than their pairs are counted: one was left out; make lambda.stream_every longer"
            );
        }
    }

    /// Keeps the newest lists over all interests, to compute only what changed the next time.
    pub(super) fn keep(&mut self, kappa: Arc<Kappa>) {
        self.around.metrics.also_bought_cut_users.set(kappa.cut_users as i64);
        self.around.metrics.also_bought_touched_products.set(kappa.touched as i64);
        self.kappa = Some((kappa, self.around.live.replaced()));
    }

    /// The lists that the next ones can begin from, where users and products are still numbered as then.
    pub(super) fn lists_before(&self) -> Option<Arc<Kappa>> {
        let (kappa, replaced) = self.kappa.as_ref()?;
        (*replaced == self.around.live.replaced()).then(|| Arc::clone(kappa))
    }
}

impl Handler<Envelope<CountPairs>> for Trainer {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<CountPairs>, context: &mut Self::Context) {
        fail::fail_point!("trainer::pairs");
        if self.stopping {
            return;
        }
        self.enqueue(envelope.message);
        if !self.counting {
            self.count_next(context);
        }
    }
}

impl Handler<Counted> for Trainer {
    type Result = ();

    fn handle(&mut self, Counted { outcome, offset, waiters }: Counted, context: &mut Self::Context) {
        self.counting = false;
        match outcome {
            Ok(Ok((layer, kappa))) => {
                if let Some(kappa) = kappa {
                    self.keep(kappa);
                }
                let port = self.around.publish_layer.clone();
                let publish = PublishLayer { layer, offset, waiters };
                context.spawn(async move { port.deliver(publish).await }.into_actor(self));
            }
            // Who waits sees the dropped reply.
            Ok(Err(Cancelled)) => {}
            Err(panicked) => tracing::error!("counting pairs of products {panicked}; the lambda view stays as it is"),
        }
        if self.stopping {
            self.pairs_waiting.clear();
        } else {
            self.count_next(context);
        }
        self.tell_stopped();
    }
}
