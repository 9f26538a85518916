//! Microsoft posts its notifications, some of them twice, and again when they were not taken.

use std::time::Duration;

use tokio::time::sleep;

use super::ledger::SimulatedLedger;
use super::plan::PlannedBlob;
use super::world::World;
use crate::clock::Clock;
use crate::discover::notify::note_notification;
use crate::run::Pipeline;
use crate::testing::blob_uri;

/// Posts what is due, for as long as it is polled.
pub(crate) async fn notify(
    world: &World,
    pipeline: &Pipeline,
    ledger: &SimulatedLedger,
    clock: &std::sync::Arc<dyn Clock>,
) {
    let feeds = pipeline.feeds();
    loop {
        let now = clock.now();
        let Some((at, blob, suffix)) = world.state().truth.next_notification() else {
            return std::future::pending().await;
        };
        if let Ok(wait) = Duration::try_from(at.duration_since(now))
            && !wait.is_zero()
        {
            sleep(wait).await;
        }
        let body = body(&world.plan.blobs[blob], suffix);
        world
            .step(|| format!("a notification names blob {blob}{suffix}"))
            .await;
        let noted = note_notification(body.as_bytes(), &feeds, ledger, clock.now()).await;
        world.step(|| format!("it is answered: {noted:?}")).await;
        let mut state = world.state();
        let now = state.now();
        match noted {
            Ok(noted) => {
                state.truth.notified();
                if noted.ignored_count + noted.refused_count > 0 {
                    state.violate(format!("a true notification of blob {blob} was refused"));
                }
                if !state.truth.noted.contains(&blob) {
                    state.violate(format!("200 was answered and blob {blob} is not noted"));
                }
                drop(state);
                pipeline.news().notify_one();
            }
            Err(_) => state.truth.not_notified(now),
        }
    }
}

fn body(blob: &PlannedBlob, suffix: &str) -> String {
    let (tenant, content_type) = (blob.tenant, blob.content_type);
    let id = format!("{}{suffix}", blob.id);
    let uri = blob_uri(tenant, &id);
    format!(
        r#"[{{"tenantId":"{tenant}","clientId":"a261478c-84fb-42f9-84c2-de050a4babe3","contentType":"{content_type}","contentId":"{id}","contentUri":"{uri}","contentCreated":"{}","contentExpiration":"{}"}}]"#,
        blob.created_at, blob.expires_at
    )
}
