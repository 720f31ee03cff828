"""MongoDB's indexes on the way back: built behind the count, since one with a time to live ends documents.

mongorestore builds all indexes itself as soon as the documents are there, and the server may then end what is over by now
before it is counted. So it is told to leave them out. What a dump says of its collections is the beginning of its archive
(common/archive/spec.md of the tools). It is kept beside, in a folder as mongodump would have made it, and out of that
mongorestore builds the indexes later: its own way, and with all their options. A clustered collection has its time to live
among the options that it is made with; it is made without, and given it behind the count.
"""

from __future__ import annotations

from ops.commands import quote_all
from ops.datastores.mongodb_shell import shell

__all__ = ["DESCRIBE", "EXPIRE", "FORGET", "building", "passing"]

# Names as mongodump writes them, in full where they are too long for a file (common/util/file.go, mongorestore/filepath.go).
# What is said stays text: an object of JavaScript has numbers among its keys first, and the order of keys makes an index.
DESCRIBE = """
const fs = require("fs");
const describe = (db, name, said, n) => {
  const collectionName = encodeURIComponent(name), long = collectionName.length > 238;
  const file = long ? `${collectionName.slice(0, 208)}%24${String(n).padStart(27, "0")}` : collectionName;
  fs.mkdirSync(`${folder}/dump/${db}`, { recursive: true });
  fs.writeFileSync(`${folder}/dump/${db}/${file}.metadata.json`, long ? JSON.stringify({ ...JSON.parse(said), collectionName }) : said);
};
"""
# Not a byte more than the beginning is read: the rest is mongorestore's.
_KEEP = """
const fresh = `ops_new_${tag}.`, head = [], clustered = [];
const take = (size) => {
  const bytes = Buffer.alloc(size);
  for (let at = 0, count; at < size; at += count) {
    count = fs.readSync(8, bytes, at, size - at);
    if (count === 0) throw new Error("the archive is cut off");
  }
  head.push(bytes);
  return bytes;
};
const fixed = { 8: 1, 16: 4, 18: 8 };
const texts = (document) => {
  const found = {};
  for (let p = 0; document[p] !== 0;) {
    const type = document[p], end = document.indexOf(0, p + 1), size = type === 2 ? document.readInt32LE(end + 1) : fixed[type];
    if (size === undefined) throw new Error(`the archive says something of type ${type}`);
    if (type === 2) found[document.toString("utf8", p + 1, end)] = document.toString("utf8", end + 5, end + 4 + size);
    p = end + 1 + size + (type === 2 ? 4 : 0);
  }
  return found;
};
fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
for (const kind of ["dump", "clustered"]) fs.mkdirSync(`${folder}/${kind}`, { recursive: true });
take(4);
for (let n = 0, size; (size = take(4).readInt32LE(0)) !== -1; n++) {
  const { db, collection, metadata } = texts(take(size - 4));
  if (!metadata || collection.startsWith("system.")) continue;
  describe(db, fresh + collection, metadata, n);
  const { expireAfterSeconds, ...options } = EJSON.parse(metadata, { relaxed: false }).options || {};
  if (!options.clusteredIndex || expireAfterSeconds === undefined) continue;
  mongo.getDB(db).runCommand({ create: fresh + collection, ...options });
  clustered.push([fresh + collection, expireAfterSeconds]);
}
fs.writeFileSync(`${folder}/clustered/${database}`, EJSON.stringify(clustered, { relaxed: false }));
fs.writeFileSync(`${folder}/head`, Buffer.concat(head));
"""
# No restore may end without its indexes.
EXPIRE = """
databases.forEach((db) => {
  const { existsSync, readFileSync } = require("fs"), kept = `${folder}/clustered/${db}`;
  if (!existsSync(kept)) throw new Error(`the container no longer has what its indexes are built of (${kept})`);
  const clustered = EJSON.parse(readFileSync(kept, "utf8"), { relaxed: false });
  clustered.forEach(([name, expireAfterSeconds]) => { mongo.getDB(db).runCommand({ collMod: name, expireAfterSeconds }); });
});
"""
FORGET = 'require("fs").rmSync(folder, { recursive: true, force: true });\n'


def passing(given: str, folder: str) -> str:
    """Return shell that passes an archive on, and keeps in a folder of the container what it says of its collections.

    `given` are the constants of its script: `database`, `tag` and `folder`.
    """
    return f"{{ ( {shell(given + DESCRIBE + _KEEP)} ) 8<&0 </dev/null >&2 && cat {folder}/head -; }}"


def building(folder: str) -> str:
    """Return shell that builds the indexes of the collections that were kept in a folder, and removes it."""
    words = quote_all(("mongorestore", "--stopOnError", f"--dir={folder}/dump"))
    return f"{{ [ ! -d {folder} ] || ( tool {words} ) >&2; }} && rm -rf {folder}"
