//! The protobuf messages of ingest, by their numbers. Every field is optional here, required ones too: a decoder that filled
//! in what is missing could not tell that it was missing. Texts are bytes, so that a batch is decoded without copying it.

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CollectedBatchList {
    #[prost(message, repeated, tag = "1")]
    pub(crate) elem: Vec<CollectedBatch>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CollectedBatch {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) source_id: Option<Bytes>,
    #[prost(message, optional, tag = "2")]
    pub(crate) metadata: Option<Metadata>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) message: Vec<CollectedMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CollectedMessage {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) hostname: Option<Bytes>,
    #[prost(fixed64, optional, tag = "2")]
    pub(crate) message_ts: Option<u64>,
    #[prost(fixed32, optional, tag = "3")]
    pub(crate) priority: Option<u32>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) prog_name: Option<Bytes>,
    #[prost(fixed64, optional, tag = "5")]
    pub(crate) pid: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub(crate) message: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub(crate) message_type: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "8")]
    pub(crate) message_type_id: Option<Bytes>,
    #[prost(fixed32, optional, tag = "9")]
    pub(crate) message_ts_us: Option<u32>,
    #[prost(bytes = "bytes", optional, tag = "10")]
    pub(crate) application_id: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Metadata {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) host_uuid: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) data_checksum: Option<Bytes>,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) timestamp: Option<u64>,
    #[prost(message, optional, tag = "4")]
    pub(crate) data: Option<Dict>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Dict {
    #[prost(message, repeated, tag = "1")]
    pub(crate) elem: Vec<Elem>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Elem {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) key: Option<Bytes>,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Value {
    #[prost(message, optional, tag = "1")]
    pub(crate) dict: Option<Dict>,
    #[prost(message, optional, tag = "2")]
    pub(crate) list: Option<List>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) str: Option<Bytes>,
    #[prost(bool, optional, tag = "4")]
    pub(crate) b: Option<bool>,
    #[prost(sint32, optional, tag = "5")]
    pub(crate) i: Option<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct List {
    #[prost(message, repeated, tag = "1")]
    pub(crate) elem: Vec<Value>,
}
