import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import io.netty.channel.Channel;
import io.netty.channel.local.LocalChannel;
import java.security.GeneralSecurityException;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicLong;

/** The library's memory backend, and in front of it: accounts, and the commands that tools and shells send besides. */
final class Backend extends MemoryBackend {
    private static final Channel OWN = new LocalChannel();
    private static final Set<String> FOR_ALL = Set.of(
        "hello", "ismaster", "saslstart", "saslcontinue", "ping", "buildinfo", "logout", "endsessions", "whatsmyuri", "connectionstatus");
    private static final Set<String> WRITES = Set.of(
        "insert", "update", "delete", "findandmodify", "create", "drop", "dropdatabase", "createindexes", "dropindexes",
        "deleteindexes", "renamecollection", "aggregate", "createuser", "updateuser", "dropuser", "_mergeauthzcollections");
    // The library's `admin` takes no documents and no database takes system collections, so both have another name inside.
    private static final String ADMIN = "admin_";
    private static final Map<String, String> KEPT = Map.of("system.users", "system_users", "system.version", "system_version");
    private static final Set<String> OF_COLLECTIONS = Set.of(
        "find", "count", "distinct", "insert", "update", "delete", "findandmodify", "drop", "createindexes", "dropindexes", "listindexes",
        "collstats");
    private final Accounts accounts;
    private final boolean guarded;
    private final AtomicLong writes = new AtomicLong();

    Backend(Accounts accounts, boolean guarded) {
        this.accounts = accounts;
        this.guarded = guarded;
    }

    static String kept(String collection) {
        return KEPT.getOrDefault(collection, collection);
    }

    long writes() {
        return writes.get();
    }

    Set<String> databases() {
        Set<String> names = new TreeSet<>(listDatabaseNames());
        names.removeAll(Set.of("local", "admin"));
        return names;
    }

    Document unguarded(String database, Document query) {
        String inside = database.equals("admin") ? ADMIN : database;
        return super.handleCommand(OWN, inside, query.keySet().iterator().next(), query);
    }

    List<Document> listed(String database, Document query) {
        List<Document> found = new ArrayList<>();
        for (Object each : (Iterable<?>) ((Document) unguarded(database, query).get("cursor")).get("firstBatch")) {
            found.add((Document) each);
        }
        return found;
    }

    @Override
    public void handleClose(Channel channel) {
        accounts.forget(channel);
        super.handleClose(channel);
    }

    @Override
    public Document handleCommand(Channel channel, String database, String command, Document query) {
        String name = command.toLowerCase(Locale.ROOT);
        if (guarded && !FOR_ALL.contains(name) && !accounts.knows(channel)) {
            throw new MongoServerError(13, "Unauthorized", "Command " + command + " requires authentication");
        }
        try {
            return answered(channel, database, command, name, query);
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException(error);
        } finally {
            if (WRITES.contains(name)) {
                writes.incrementAndGet();
            }
        }
    }

    private Document answered(Channel channel, String database, String command, String name, Document query) throws GeneralSecurityException {
        switch (name) {
            case "saslstart":
                return accounts.start(this, channel, database, query);
            case "saslcontinue":
                return accounts.go(channel, query);
            case "logout":
                accounts.forget(channel);
                return good();
            case "hello":
            case "ismaster": {
                Document answer = super.handleCommand(channel, database, "ismaster", query);
                answer.append("isWritablePrimary", true).append("helloOk", true).append("maxWireVersion", 21).append("logicalSessionTimeoutMinutes", 30);
                if (query.containsKey("saslSupportedMechs")) {
                    answer.append("saslSupportedMechs", new ArrayList<>(List.of("SCRAM-SHA-256")));
                }
                return answer;
            }
            case "buildinfo":
                return super.handleCommand(channel, database, command, query)
                    .append("version", "7.0.0").append("versionArray", new ArrayList<>(List.of(7, 0, 0, 0))).append("modules", new ArrayList<>());
            case "getparameter":
                return good().append("authSchemaVersion", 5).append("featureCompatibilityVersion", new Document("version", "7.0"));
            case "serverstatus":
                return super.handleCommand(channel, database, command, query).append("storageEngine", new Document("name", "stand-in").append("persistent", true));
            case "createuser":
                if (accounts.find(this, database, (String) query.get(command)) != null) {
                    throw new MongoServerError(51003, "Location51003", "User \"" + query.get(command) + "@" + database + "\" already exists");
                }
                accounts.put(this, database, (String) query.get(command), (String) query.get("pwd"), roles(database, query));
                return good();
            case "updateuser":
                if (accounts.find(this, database, (String) query.get(command)) == null) {
                    throw new MongoServerError(11, "UserNotFound", "User " + query.get(command) + "@" + database + " not found");
                }
                accounts.put(this, database, (String) query.get(command), (String) query.get("pwd"), roles(database, query));
                return good();
            case "dropuser":
                accounts.drop(this, database, (String) query.get(command));
                return good();
            case "usersinfo":
                return good().append("users", users(database, query.get(command)));
            case "_mergeauthzcollections":
                merge(query);
                return good();
            case "fsync":
            case "fsyncunlock":
            case "endsessions":
                return good();
            case "shutdown":
                new Thread(() -> System.exit(0)).start();
                return good();
            case "create":
                if (query.containsKey("viewOn")) {
                    throw new MongoServerError(238, "NotImplemented", "this stand-in has no views");
                }
                return super.handleCommand(channel, database.equals("admin") ? ADMIN : database, command, inside(command, query));
            case "renamecollection":
                return renamed(channel, database, command, query);
            case "listdatabases":
                return withoutInner(super.handleCommand(channel, database, command, query));
            case "listcollections":
                return database.equals("admin") ? named(super.handleCommand(channel, ADMIN, command, query)) : super.handleCommand(channel, database, command, query);
            default:
                if (database.equals("admin") && OF_COLLECTIONS.contains(name)) {
                    return super.handleCommand(channel, ADMIN, command, inside(command, query));
                }
                return super.handleCommand(channel, database, command, query);
        }
    }

    private Document renamed(Channel channel, String database, String command, Document query) {
        String target = ((String) query.get("to")).split("\\.", 2)[0];
        // The library moves a collection into another database only where that has had one before.
        String passing = "passing." + System.nanoTime();
        unguarded(target, new Document("create", passing));
        try {
            return super.handleCommand(channel, database, command, query);
        } finally {
            unguarded(target, new Document("drop", passing));
        }
    }

    /** The query with the name that its collection has inside. */
    private static Document inside(String command, Document query) {
        Document changed = new Document();
        query.forEach((key, value) -> changed.append(key, key.equals(command) ? kept((String) value) : value));
        return changed;
    }

    private static Document named(Document answer) {
        for (Object each : (Iterable<?>) ((Document) answer.get("cursor")).get("firstBatch")) {
            Document found = (Document) each;
            KEPT.forEach((name, kept) -> {
                if (kept.equals(found.get("name"))) {
                    found.put("name", name);
                }
            });
        }
        return answer;
    }

    private static Document withoutInner(Document answer) {
        List<Document> shown = new ArrayList<>();
        boolean admin = false;
        for (Object each : (Iterable<?>) answer.get("databases")) {
            Document found = (Document) each;
            admin |= found.get("name").equals("admin");
            if (!found.get("name").equals(ADMIN)) {
                shown.add(found);
            }
        }
        if (!admin) {
            shown.add(new Document("name", "admin").append("sizeOnDisk", 1.0).append("empty", false));
        }
        answer.put("databases", shown);
        return answer;
    }

    private static Object roles(String database, Document query) {
        if (!(query.get("roles") instanceof Iterable<?> given)) {
            return null;
        }
        List<Document> roles = new ArrayList<>();
        for (Object each : given) {
            roles.add(each instanceof Document role ? role : new Document("role", each).append("db", database));
        }
        return roles;
    }

    private List<Document> users(String database, Object wanted) {
        List<Document> found = new ArrayList<>();
        for (Document each : listed("admin", new Document("find", kept("system.users")).append("batchSize", Integer.MAX_VALUE))) {
            boolean one = wanted instanceof String && each.get("user").equals(wanted) && each.get("db").equals(database);
            boolean exact = wanted instanceof Document pair && each.get("user").equals(pair.get("user")) && each.get("db").equals(pair.get("db"));
            if (one || exact || wanted instanceof Number && each.get("db").equals(database)) {
                Document shown = new Document();
                each.forEach((key, value) -> {
                    if (!key.equals("credentials")) {
                        shown.append(key, value);
                    }
                });
                found.add(shown.append("mechanisms", new ArrayList<>(List.of("SCRAM-SHA-256"))));
            }
        }
        return found;
    }

    /** What `mongorestore` asks for after it has put the users of an archive into a collection of its own. */
    private void merge(Document query) {
        if (!(query.get("tempUsersCollection") instanceof String full) || full.isEmpty()) {
            return;
        }
        String temporary = full.substring(full.indexOf('.') + 1);
        List<Document> users = listed("admin", new Document("find", temporary).append("batchSize", Integer.MAX_VALUE));
        List<Document> deletes = new ArrayList<>();
        if (Boolean.TRUE.equals(query.get("drop"))) {
            deletes.add(new Document("q", new Document()).append("limit", 0));
        }
        for (Document each : users) {
            deletes.add(new Document("q", new Document("_id", each.get("_id"))).append("limit", 1));
        }
        if (!users.isEmpty()) {
            unguarded("admin", new Document("delete", kept("system.users")).append("deletes", deletes));
            unguarded("admin", new Document("insert", kept("system.users")).append("documents", users));
        }
    }

    private static Document good() {
        return new Document("ok", 1.0);
    }
}
