CREATE TABLE event (sequence INTEGER PRIMARY KEY, at, kind, mac, network, address, evidence, heard, reason, figures,
    was, was_since, was_reason, was_figures, more);
CREATE INDEX event_changed ON event (mac, kind) WHERE more IS NOT NULL;
CREATE INDEX event_rare ON event (kind) WHERE kind IN (7, 9, 11, 12, 13, 14, 15, 16, 17);
CREATE TABLE device (mac INTEGER PRIMARY KEY, sequence, first_seen, status, status_since, reason, known, hostname,
    hostname_source, label, notes, patience, learned, learned_at, addresses);
CREATE TABLE seen (mac INTEGER PRIMARY KEY, at INTEGER NOT NULL, confirmed INTEGER NOT NULL);
CREATE TABLE word (number INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE shift (sequence INTEGER PRIMARY KEY, lived INTEGER NOT NULL, ahead INTEGER NOT NULL);
CREATE TABLE state (epoch TEXT NOT NULL, reserved INTEGER NOT NULL, floor INTEGER NOT NULL, shown INTEGER NOT NULL,
    alive_at INTEGER NOT NULL, lived INTEGER NOT NULL DEFAULT 0, boot_at INTEGER NOT NULL DEFAULT 0,
    aged INTEGER NOT NULL DEFAULT 0, hole INTEGER NOT NULL DEFAULT 0, sized_at INTEGER NOT NULL DEFAULT 0);
INSERT INTO state (epoch, reserved, floor, shown, alive_at) VALUES ('k3f9', 100, 0, 40, 1);
INSERT INTO event (sequence, at, kind) VALUES (40, 1700000000000, 13);
PRAGMA application_id = 1853055844;
PRAGMA user_version = 2;
