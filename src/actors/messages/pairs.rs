//! What is said about pairs of products: the layers of the lambda view.

use std::sync::Arc;

use actix::Message;
use tokio::sync::oneshot;

use crate::also_bought::lambda::Ended;
use crate::also_bought::{Also, Table};
use crate::interests::base::Base;

/// To Counter: compute the batch view now.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StartBatch {
    /// Told how many events it counts, when it is served.
    pub reply: Option<oneshot::Sender<u64>>,
}

/// To Trainer: count pairs of products for a layer of the lambda view.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CountPairs {
    /// Which, over what.
    pub layer: Layer,
    /// All events up to here are in it, or in a layer before.
    pub offset: u64,
    /// Told the offset when the layer is served.
    pub waiters: Vec<oneshot::Sender<u64>>,
}

/// What a layer of the lambda view is computed from.
#[derive(Debug)]
pub enum Layer {
    /// One stream window.
    Stream(Ended),
    /// All interests.
    Batch(Arc<Base>),
    /// All interests as of a stream window's end.
    Sum(Arc<Base>),
    /// Nothing: these products' stream lists are taken away.
    Forgotten(Vec<u32>),
}

/// To Publisher: put this into the lambda view.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct PublishLayer {
    /// The lists.
    pub layer: NewLayer,
    /// All events up to here are in it, or in a layer before.
    pub offset: u64,
    /// Told the offset when it is served.
    pub waiters: Vec<oneshot::Sender<u64>>,
}

/// What replaces a layer of the lambda view, or a part of it.
#[derive(Debug)]
pub enum NewLayer {
    /// New lists of the products in one stream window.
    Stream(Vec<(u32, Vec<Also>)>),
    /// All lists.
    Batch(Table),
    /// All lists.
    Sum(Table),
    /// These products' stream lists are taken away: somebody whose events are in them was forgotten.
    Forgotten(Vec<u32>),
}
