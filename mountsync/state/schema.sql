-- The local state of one mount. Names and paths are blobs, because a Unix name is bytes.
-- Times are nanoseconds since 1970. Ids are never used twice while anything remembers them.

-- Facts about the state as a whole: `remote` (identity of the storage), `boot` (boot id of the last
-- start), `clean` (1 after an orderly stop).
CREATE TABLE setting (
    key   TEXT PRIMARY KEY,
    value ANY
) STRICT, WITHOUT ROWID;

-- One file, directory, link or special file of the mounted tree; `id` is its inode number, 1 the root.
CREATE TABLE node (
    id         INTEGER PRIMARY KEY,
    mode       INTEGER NOT NULL,   -- type and permission bits, as in stat(2)
    uid        INTEGER NOT NULL,
    gid        INTEGER NOT NULL,
    rdev       INTEGER NOT NULL,
    nlink      INTEGER NOT NULL,   -- names of a file; 2 + subdirectories of a directory; 0: unlinked, open
    size       INTEGER NOT NULL,
    mtime_ns   INTEGER NOT NULL,
    ctime_ns   INTEGER NOT NULL,
    atime_ns   INTEGER NOT NULL,
    generation INTEGER NOT NULL,   -- raised by each change of content
    place      INTEGER NOT NULL,   -- where the content is: 0 nowhere, 1 blob, 2 file, 3 file with gaps
    target     BLOB,               -- text of a symbolic link
    listed     INTEGER NOT NULL    -- a directory: 1 when all that the remote holds in it is known
) STRICT;

CREATE TABLE dentry (
    parent INTEGER NOT NULL,
    name   BLOB NOT NULL,
    node   INTEGER NOT NULL,
    PRIMARY KEY (parent, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX dentry_node ON dentry (node);

-- Small contents, in the same commit as the attributes that describe them.
CREATE TABLE blob (
    node INTEGER PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;

-- Which bytes of a content file with gaps are here: [start, stop), written after the bytes.
CREATE TABLE present (
    node    INTEGER NOT NULL,
    start   INTEGER NOT NULL,
    stop    INTEGER NOT NULL,
    barrier INTEGER NOT NULL,      -- 1 once a barrier has made the bytes safe from power loss
    PRIMARY KEY (node, start)
) STRICT, WITHOUT ROWID;

-- Nodes whose content file holds bytes that no barrier has made safe from power loss yet.
CREATE TABLE unsynced (
    node INTEGER PRIMARY KEY
) STRICT;

-- Extended attributes that programs set; they stay on this machine.
CREATE TABLE xattr (
    node  INTEGER NOT NULL,
    name  BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (node, name)
) STRICT, WITHOUT ROWID;

-- Nodes that may differ from what was last agreed with the remote. An observation, not an intention:
-- what is to be done about it is derived anew each time.
CREATE TABLE journal (
    node       INTEGER PRIMARY KEY,
    version    INTEGER NOT NULL,   -- another number at each change; a row is settled only at its version
    ready      INTEGER NOT NULL,   -- 0: bytes are being changed in place and may not be uploaded
    since_ns   INTEGER NOT NULL,   -- first change that is not yet agreed
    changed_ns INTEGER NOT NULL,   -- last change
    attempts   INTEGER NOT NULL DEFAULT 0,
    not_before_ns INTEGER NOT NULL DEFAULT 0,
    problem    TEXT
) STRICT;
CREATE INDEX journal_since ON journal (since_ns, node);

-- What both sides last agreed on, as a tree of its own: `parent` is the id that the directory has here.
-- A renamed directory is one row. `node` and `generation` say which local state agreed.
CREATE TABLE base (
    parent     INTEGER NOT NULL,
    name       BLOB NOT NULL,
    node       INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    kind       INTEGER NOT NULL,   -- 0 file, 1 directory, 2 symbolic link
    size       INTEGER NOT NULL,
    mtime_ns   INTEGER,            -- as the remote reports it; NULL where it has none
    mode       INTEGER,            -- as the remote reports it; NULL where it has none
    local_mtime_ns INTEGER,        -- as the local side had it when both agreed
    local_mode INTEGER,
    digest     BLOB,               -- sha256 of the content, NULL while not known
    token      TEXT,               -- the remote's token of that content
    target     BLOB,
    PRIMARY KEY (parent, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX base_node ON base (node);

-- What was begun on the remote and is not in `base` yet, step by step: after a crash it tells whether it
-- happened. Paths are the remote's, as they are once the steps before are done.
CREATE TABLE attempt (
    batch      INTEGER NOT NULL,   -- the steps of one cycle
    step       INTEGER NOT NULL,
    verb       INTEGER NOT NULL,   -- 0 put or make, 1 set time and mode, 2 move, 3 delete
    path       BLOB NOT NULL,
    source     BLOB,               -- a move: where from
    node       INTEGER NOT NULL,   -- which local state it was; 0 for a delete
    generation INTEGER NOT NULL,
    kind       INTEGER,            -- what was sent; NULL where nothing was
    size       INTEGER,
    mtime_ns   INTEGER,
    mode       INTEGER,
    target     BLOB,
    old_kind   INTEGER,            -- what the remote had before, at `source` for a move; NULL: nothing
    old_size   INTEGER,
    old_mtime_ns INTEGER,
    old_token  TEXT,
    old_target BLOB,
    digest     BLOB,               -- sha256 of what is moved, or of what was sent, once it is on its way
    PRIMARY KEY (batch, step)
) STRICT, WITHOUT ROWID;

-- Digests that were computed once: valid while the storage still reports that token for the path.
CREATE TABLE digest (
    storage TEXT NOT NULL,
    path    BLOB NOT NULL,
    token   TEXT NOT NULL,
    digest  BLOB NOT NULL,
    PRIMARY KEY (storage, path)
) STRICT, WITHOUT ROWID;

-- Nodes whose content a person wants here always; a directory stands for all below it.
CREATE TABLE pin (
    node INTEGER PRIMARY KEY
) STRICT;

-- What belongs to a node goes with it.
CREATE TRIGGER node_gone AFTER DELETE ON node BEGIN
    DELETE FROM blob WHERE node = old.id;
    DELETE FROM present WHERE node = old.id;
    DELETE FROM unsynced WHERE node = old.id;
    DELETE FROM xattr WHERE node = old.id;
    DELETE FROM pin WHERE node = old.id;
END;
