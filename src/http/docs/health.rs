//! What load balancers, scripts and collectors are told.

use utoipa::ToSchema;

#[derive(ToSchema)]
pub(in crate::http) struct Health {
    status: Overall,
    #[schema(format = DateTime)]
    timestamp: String,
    /// Seconds.
    uptime: u64,
    version: String,
    role: String,
    checks: Checks,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum Overall {
    Healthy,
    Unhealthy,
}

#[derive(ToSchema)]
struct Checks {
    database: Check,
    /// As `cache`, for old scripts.
    redis: Check,
    cache: Check,
    memory: Check,
    disk: Check,
    replication: Check,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum Check {
    Healthy,
    Warning,
    Unhealthy,
    Unknown,
}

#[derive(ToSchema)]
pub(in crate::http) struct Alive {
    status: String,
}

#[derive(ToSchema)]
pub(in crate::http) struct Ready {
    #[schema(pattern = "^ready$")]
    status: String,
    role: String,
}

#[derive(ToSchema)]
pub(in crate::http) struct NotReady {
    #[schema(pattern = "^not_ready$")]
    status: String,
    reason: String,
}

#[derive(ToSchema)]
pub(in crate::http) struct RoleNow {
    role: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct StandbyNow {
    role: String,
    /// How long ago the database was as the primary's.
    #[schema(required = true)]
    lag_ms: Option<u64>,
}

#[derive(ToSchema)]
pub(in crate::http) struct Detailed {
    status: DetailedStatus,
    components: Components,
    memory: Memory,
    version: String,
    environment: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum DetailedStatus {
    Ok,
    Degraded,
}

#[derive(ToSchema)]
struct Components {
    #[schema(value_type = Object)]
    database: (),
    #[schema(value_type = Object)]
    redis: (),
    #[schema(value_type = Object)]
    cache: (),
    #[schema(value_type = Object)]
    replication: (),
    upstreams: Vec<UpstreamNow>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct UpstreamNow {
    agent_id: String,
    breaker: super::Breaker,
}

#[derive(ToSchema)]
struct Memory {
    /// Bytes.
    #[schema(required = true)]
    rss: Option<u64>,
    limit: u64,
}
