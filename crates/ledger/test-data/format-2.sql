-- A ledger of format 2, as the program before format 3 made it: as that of format 1, with a counter, a blob and a
-- record in quarantine, and two stretches that were listed.
-- Never edited: it stands for files that exist.
PRAGMA application_id = 1328756277;
PRAGMA user_version = 2;

CREATE TABLE stream (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    content_type TEXT NOT NULL,
    listed_until INTEGER,
    delivered_count INTEGER NOT NULL DEFAULT 0,
    quarantined_count INTEGER NOT NULL DEFAULT 0,
    expired_count INTEGER NOT NULL DEFAULT 0,
    delivered_record_count INTEGER NOT NULL DEFAULT 0,
    delivered_byte_count INTEGER NOT NULL DEFAULT 0,
    quarantined_record_count INTEGER NOT NULL DEFAULT 0,
    UNIQUE (tenant, content_type)
) STRICT;

CREATE TABLE blob (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL REFERENCES stream (id),
    state INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL DEFAULT 0,
    token INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    whole_sinks INTEGER NOT NULL DEFAULT 0,
    seen_via INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    settled_at INTEGER,
    record_count INTEGER,
    byte_count INTEGER,
    quarantined_count INTEGER,
    content_id TEXT NOT NULL,
    uri TEXT,
    reason TEXT,
    UNIQUE (stream, content_id)
) STRICT;

CREATE INDEX blob_ready ON blob (stream, whole_sinks, expires_at, created_at) WHERE state = 0;
CREATE INDEX blob_due ON blob (due_at, state, stream, expires_at, created_at) WHERE state IN (1, 2);

CREATE TABLE sink (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    position TEXT
) STRICT;

CREATE TABLE part (
    blob INTEGER NOT NULL REFERENCES blob (id),
    sink INTEGER NOT NULL REFERENCES sink (id),
    first_record INTEGER NOT NULL,
    record_count INTEGER NOT NULL,
    fingerprint INTEGER NOT NULL,
    PRIMARY KEY (blob, sink, first_record, record_count, fingerprint)
) STRICT, WITHOUT ROWID;

CREATE TABLE listed (
    stream INTEGER NOT NULL REFERENCES stream (id),
    start_at INTEGER NOT NULL,
    end_at INTEGER NOT NULL,
    PRIMARY KEY (stream, start_at)
) STRICT, WITHOUT ROWID;

CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    stream INTEGER NOT NULL REFERENCES stream (id),
    content_id TEXT NOT NULL,
    record_index INTEGER NOT NULL,
    sink INTEGER NOT NULL,
    reason TEXT NOT NULL,
    quarantined_at INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    UNIQUE (stream, content_id, record_index, sink)
) STRICT;

CREATE TABLE fact (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE counter (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO stream (id, tenant, content_type, listed_until, delivered_count, delivered_record_count, delivered_byte_count,
                    quarantined_count, quarantined_record_count)
VALUES (1, '00000000-0000-0000-0000-000000000001', 'Audit.Exchange', 1760000000000, 1, 3, 99, 1, 1);
INSERT INTO blob (id, stream, state, seen_via, created_at, expires_at, seen_at, settled_at, record_count, byte_count,
                  quarantined_count, content_id, uri)
VALUES (1, 1, 3, 0, 1760000000000, 1760604800000, 1760000000000, 1760000001000, 3, 99, 0,
        '20251009$delivered$na0018', NULL),
       (2, 1, 0, 0, 1760000000000, 1760604800000, 1760000000000, NULL, NULL, NULL, NULL,
        '20251009$waiting$na0018', 'https://manage.office.com/2'),
       (3, 1, 4, 0, 1759999999999, 1760604799999, 1760000000000, 1760000001000, NULL, NULL, NULL,
        '20251009$bad$na0018', NULL);
UPDATE blob SET reason = 'not JSON' WHERE id = 3;
INSERT INTO quarantine (id, stream, content_id, record_index, sink, reason, quarantined_at, bytes)
VALUES (7, 1, '20251009$bad$na0018', -1, -1, 'not JSON', 1760000001000, x'3c68746d6c3e'),
       (8, 1, '20251009$delivered$na0018', 2, 0, 'too large', 1760000001000, x'7b7d');
INSERT INTO counter (name, value) VALUES ('calls', 41);
INSERT INTO listed (stream, start_at, end_at) VALUES (1, 1759980000000, 1759983600000), (1, 1759990000000, 1760000000000);
INSERT INTO sink (id, name, position) VALUES (0, 'file', '99');
INSERT INTO fact (key, value) VALUES ('registration', 'kept');
