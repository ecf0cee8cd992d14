//! A typed client: creates a source, streams events to it, and reads them.
//! URL is the address of the server and KEY an API key, as in README.md.

use std::{env, error::Error, time::Duration};

use headwater::v1::{
    CreateConnectionRequest, CreatePipelineRequest, Event, Filter, FilterCondition,
    ListEventWriteKeysRequest, ListEventsRequest, StreamEventsRequest,
    connection_service_client::ConnectionServiceClient, event_service_client::EventServiceClient,
    pipeline_service_client::PipelineServiceClient,
};
use tokio::time::sleep;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

mod headwater {
    pub mod v1 {
        tonic::include_proto!("headwater.v1");
    }
}

const MAX_STREAMS: usize = 10;

type Authorized = InterceptedService<Channel, Key>;

/// The key that authorizes each call.
#[derive(Clone)]
struct Key(MetadataValue<Ascii>);

impl Key {
    fn new(key: &str) -> Result<Self, Box<dyn Error>> {
        Ok(Self(format!("Bearer {key}").parse()?))
    }
}

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert("authorization", self.0.clone());
        Ok(request)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let channel = Endpoint::from_shared(env::var("URL")?)?
        .timeout(Duration::from_secs(60))
        .connect()
        .await?;
    let manager = Key::new(&env::var("KEY")?)?;
    let connections = ConnectionServiceClient::with_interceptor(channel.clone(), manager.clone());
    let pipelines = PipelineServiceClient::with_interceptor(channel.clone(), manager.clone());
    let (source, write_key) = create_source(connections.clone(), pipelines).await?;
    let intake = EventServiceClient::with_interceptor(channel.clone(), Key::new(&write_key)?);
    stream_events(intake, make_requests(source)).await?;
    let events = EventServiceClient::with_interceptor(channel, manager);
    read_events(events, source).await?;
    handle_an_error(connections).await;
    Ok(())
}

/// Creates a source and a pipeline that stores its orders. Returns the source's id and its write key.
async fn create_source(
    mut connections: ConnectionServiceClient<Authorized>,
    mut pipelines: PipelineServiceClient<Authorized>,
) -> Result<(i32, String), Box<dyn Error>> {
    let connection = CreateConnectionRequest {
        name: "Shop".into(),
        role: "Source".into(),
        connector: "http".into(),
        ..Default::default()
    };
    let source = connections.create_connection(connection).await?.into_inner().id;
    let orders = FilterCondition {
        property: "event".into(),
        operator: "is".into(),
        values: vec!["Order Completed".into()],
    };
    let pipeline = CreatePipelineRequest {
        connection: source,
        target: "Event".into(),
        name: "Store orders".into(),
        enabled: true,
        filter: Some(Filter {
            logical: "and".into(),
            conditions: vec![orders],
        }),
        ..Default::default()
    };
    let created = pipelines.create_pipeline(pipeline).await?.into_inner().id;
    println!("created source {source} with pipeline {created}");
    let request = ListEventWriteKeysRequest { id: source };
    let mut keys = connections.list_event_write_keys(request).await?.into_inner().keys;
    Ok((source, keys.remove(0)))
}

/// Makes 20 requests with 10 events each. An event with a message id is stored once, however often it is sent.
fn make_requests(source: i32) -> Vec<StreamEventsRequest> {
    let event = |request: usize, index: usize| Event {
        r#type: "track".into(),
        user_id: Some("ada".into()),
        message_id: format!("{source}-{request}-{index}"),
        event: Some(["Order Viewed", "Order Completed"][index % 2].into()),
        ..Default::default()
    };
    (0..20)
        .map(|request| StreamEventsRequest {
            events: (0..10).map(|index| event(request, index)).collect(),
            ..Default::default()
        })
        .collect()
}

/// Sends all requests. After a break it sends those that are not acknowledged on a new stream.
async fn stream_events(
    mut events: EventServiceClient<Authorized>,
    requests: Vec<StreamEventsRequest>,
) -> Result<(), Box<dyn Error>> {
    let mut durable = 0;
    for _ in 0..MAX_STREAMS {
        let mut acknowledged = 0;
        let ended = stream_once(&mut events, &requests[durable..], &mut acknowledged).await;
        durable += acknowledged;
        if durable == requests.len() {
            println!("streamed {durable} requests");
            return Ok(());
        }
        if let Err(status) = ended {
            match status.code() {
                Code::Unavailable
                | Code::Internal
                | Code::ResourceExhausted
                | Code::Unknown // the connection broke within a message
                | Code::Cancelled => {}
                _ => return Err(status.into()),
            }
        }
        println!("the stream broke after {durable} requests");
        sleep(Duration::from_secs(1)).await;
    }
    Err(format!("only {durable} requests are durable after {MAX_STREAMS} streams").into())
}

/// Sends requests on one stream, and counts in `acknowledged` how many of them are durable.
async fn stream_once(
    events: &mut EventServiceClient<Authorized>,
    requests: &[StreamEventsRequest],
    acknowledged: &mut usize,
) -> Result<(), Status> {
    let stream = tokio_stream::iter(requests.to_vec());
    let mut responses = events.stream_events(stream).await?.into_inner();
    while let Some(response) = responses.message().await? {
        *acknowledged = response.requests as usize;
    }
    Ok(())
}

/// Reads the stored events of the source in pages, once all of them are stored.
async fn read_events(
    mut events: EventServiceClient<Authorized>,
    source: i32,
) -> Result<(), Box<dyn Error>> {
    for _ in 0..100 {
        let mut request = ListEventsRequest {
            connection_ids: vec![source],
            order: Some("receivedAt".into()),
            ascending: true,
            limit: Some(40),
            ..Default::default()
        };
        let (mut stored, mut pages) = (Vec::new(), 0);
        loop {
            let page = events.list_events(request.clone()).await?.into_inner();
            stored.extend(page.events);
            pages += 1;
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        if stored.len() == 100 {
            println!("read {} events in {pages} pages", stored.len());
            return Ok(());
        }
        sleep(Duration::from_millis(200)).await;
    }
    Err("the events are not stored".into())
}

/// Sends a request without a name. Programs decide by the reason, and show the field.
async fn handle_an_error(mut connections: ConnectionServiceClient<Authorized>) {
    let nameless = CreateConnectionRequest {
        role: "Source".into(),
        connector: "http".into(),
        ..Default::default()
    };
    if let Err(status) = connections.create_connection(nameless).await
        && let Some(info) = status.get_details_error_info()
    {
        let field = info.metadata.get("field").map_or("", String::as_str);
        println!("error {} in {field}: {}", info.reason, status.message());
    }
}
