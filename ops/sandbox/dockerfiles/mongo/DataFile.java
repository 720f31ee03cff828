import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.wire.bson.BsonDecoder;
import de.bwaldvogel.mongo.wire.bson.BsonEncoder;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;

/**
 * All collections in one file: for each a header {db, name, indexes, count} and then its documents, as BSON.
 * Written whole beside the old one and renamed over it.
 */
final class DataFile {
    private static final int AT_ONCE = 5000;
    private final Path path;
    private final Backend backend;
    private long savedAt = -1;

    DataFile(Path path, Backend backend) {
        this.path = path;
        this.backend = backend;
    }

    boolean changed() {
        return backend.writes() != savedAt;
    }

    synchronized void save() throws IOException {
        long now = backend.writes();
        Path beside = path.resolveSibling(path.getFileName() + ".new");
        ByteBuf buffer = Unpooled.buffer(1 << 16);
        try (OutputStream out = new BufferedOutputStream(Files.newOutputStream(beside), 1 << 20)) {
            for (String database : backend.databases()) {
                for (Document found : backend.listed(database, new Document("listCollections", 1))) {
                    String name = (String) found.get("name");
                    if (name.startsWith("system.")) {
                        continue;
                    }
                    List<Document> all = backend.listed(database, new Document("find", name).append("batchSize", Integer.MAX_VALUE));
                    List<Document> indexes = backend.listed(database, new Document("listIndexes", name));
                    write(out, buffer, new Document("db", database).append("name", name).append("indexes", indexes).append("count", all.size()));
                    for (Document each : all) {
                        write(out, buffer, each);
                    }
                }
            }
        }
        Files.move(beside, path, StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
        savedAt = now;
    }

    /** Return whether there was anything to load. */
    boolean load() throws IOException {
        if (!Files.exists(path)) {
            return false;
        }
        try (DataInputStream in = new DataInputStream(new BufferedInputStream(Files.newInputStream(path), 1 << 20))) {
            for (Document header = read(in); header != null; header = read(in)) {
                String database = (String) header.get("db");
                String name = (String) header.get("name");
                backend.unguarded(database, new Document("create", name));
                for (int left = (Integer) header.get("count"); left > 0; ) {
                    List<Document> some = new ArrayList<>();
                    for (; left > 0 && some.size() < AT_ONCE; left--) {
                        some.add(read(in));
                    }
                    backend.unguarded(database, new Document("insert", name).append("documents", some));
                }
                List<Document> indexes = new ArrayList<>();
                for (Object each : (Iterable<?>) header.get("indexes")) {
                    if (!"_id_".equals(((Document) each).get("name"))) {
                        indexes.add((Document) each);
                    }
                }
                if (!indexes.isEmpty()) {
                    backend.unguarded(database, new Document("createIndexes", name).append("indexes", indexes));
                }
            }
        }
        return true;
    }

    private static void write(OutputStream out, ByteBuf buffer, Document document) throws IOException {
        buffer.clear();
        BsonEncoder.encodeDocument(document, buffer);
        buffer.readBytes(out, buffer.readableBytes());
    }

    private static Document read(DataInputStream in) throws IOException {
        int size;
        try {
            size = in.readInt();
        } catch (EOFException end) {
            return null;
        }
        int length = Integer.reverseBytes(size);
        ByteBuf buffer = Unpooled.buffer(length).writeInt(size);
        byte[] rest = new byte[length - 4];
        in.readFully(rest);
        return BsonDecoder.decodeBson(buffer.writeBytes(rest));
    }
}
