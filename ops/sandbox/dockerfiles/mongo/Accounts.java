import de.bwaldvogel.mongo.bson.BinData;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import io.netty.channel.Channel;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import javax.crypto.Mac;
import javax.crypto.SecretKeyFactory;
import javax.crypto.spec.PBEKeySpec;
import javax.crypto.spec.SecretKeySpec;

/**
 * Users in `admin.system.users` as a server keeps them, and the conversation of SCRAM-SHA-256 (RFC 7677).
 * Who has an account may do everything: roles are kept and not enforced.
 */
final class Accounts {
    private static final int ITERATIONS = 15000;
    private static final SecureRandom RANDOM = new SecureRandom();
    private final Map<Channel, Conversation> conversations = new ConcurrentHashMap<>();
    private final Map<Channel, String> known = new ConcurrentHashMap<>();

    private static final class Conversation {
        String account;
        String first;
        String nonce;
        Document credentials;
        boolean done;
    }

    boolean knows(Channel channel) {
        return known.containsKey(channel);
    }

    void forget(Channel channel) {
        conversations.remove(channel);
        known.remove(channel);
    }

    void createRoot(Backend backend, String name, String password) throws GeneralSecurityException {
        List<Document> roles = new ArrayList<>(List.of(new Document("role", "root").append("db", "admin")));
        put(backend, "admin", name, password, roles);
    }

    /** createUser and updateUser: what a command leaves out stays as it was. */
    void put(Backend backend, String database, String name, String password, Object roles) throws GeneralSecurityException {
        Document before = find(backend, database, name);
        String key = database + "." + name;
        Document user = new Document("_id", key).append("user", name).append("db", database);
        user.append("credentials", password == null ? before.get("credentials") : credentials(password));
        user.append("roles", roles == null ? before.get("roles") : roles);
        drop(backend, database, name);
        backend.unguarded("admin", new Document("insert", Backend.kept("system.users")).append("documents", new ArrayList<>(List.of(user))));
        Document schema = new Document("q", new Document("_id", "authSchema")).append("u", new Document("_id", "authSchema").append("currentVersion", 5)).append("upsert", true);
        backend.unguarded("admin", new Document("update", Backend.kept("system.version")).append("updates", new ArrayList<>(List.of(schema))));
    }

    void drop(Backend backend, String database, String name) {
        Document one = new Document("q", new Document("_id", database + "." + name)).append("limit", 1);
        backend.unguarded("admin", new Document("delete", Backend.kept("system.users")).append("deletes", new ArrayList<>(List.of(one))));
    }

    Document find(Backend backend, String database, String name) {
        Document wanted = new Document("_id", database + "." + name);
        List<Document> found = backend.listed("admin", new Document("find", Backend.kept("system.users")).append("filter", wanted));
        return found.isEmpty() ? null : found.get(0);
    }

    Document start(Backend backend, Channel channel, String database, Document query) throws GeneralSecurityException {
        if (!"SCRAM-SHA-256".equals(query.get("mechanism"))) {
            throw new MongoServerError(334, "MechanismUnavailable", "this stand-in speaks SCRAM-SHA-256 alone");
        }
        String message = text(query);
        Conversation conversation = new Conversation();
        conversation.first = message.substring(message.indexOf("n="));
        String name = field(conversation.first, "n").replace("=2C", ",").replace("=3D", "=");
        Document user = find(backend, database, name);
        if (user == null) {
            throw refused();
        }
        conversation.account = database + "." + name;
        conversation.credentials = (Document) ((Document) user.get("credentials")).get("SCRAM-SHA-256");
        byte[] random = new byte[18];
        RANDOM.nextBytes(random);
        conversation.nonce = field(conversation.first, "r") + encoded(random);
        conversations.put(channel, conversation);
        return answer(false, challenge(conversation));
    }

    Document go(Channel channel, Document query) throws GeneralSecurityException {
        Conversation conversation = conversations.get(channel);
        if (conversation == null) {
            throw refused();
        }
        if (conversation.done) {
            return answer(true, "");
        }
        String message = text(query);
        int end = message.lastIndexOf(",p=");
        byte[] proof = decoded(message.substring(end + 3));
        byte[] said = bytes(conversation.first + "," + challenge(conversation) + "," + message.substring(0, end));
        byte[] storedKey = decoded((String) conversation.credentials.get("storedKey"));
        byte[] clientKey = mac(storedKey, said);
        for (int i = 0; i < clientKey.length; i++) {
            clientKey[i] ^= proof[i];
        }
        if (!MessageDigest.isEqual(MessageDigest.getInstance("SHA-256").digest(clientKey), storedKey)) {
            throw refused();
        }
        conversation.done = true;
        known.put(channel, conversation.account);
        byte[] serverKey = decoded((String) conversation.credentials.get("serverKey"));
        return answer(false, "v=" + encoded(mac(serverKey, said)));
    }

    private static Document credentials(String password) throws GeneralSecurityException {
        byte[] salt = new byte[28];
        RANDOM.nextBytes(salt);
        PBEKeySpec spec = new PBEKeySpec(password.toCharArray(), salt, ITERATIONS, 256);
        byte[] salted = SecretKeyFactory.getInstance("PBKDF2WithHmacSHA256").generateSecret(spec).getEncoded();
        byte[] stored = MessageDigest.getInstance("SHA-256").digest(mac(salted, bytes("Client Key")));
        Document keys = new Document("iterationCount", ITERATIONS).append("salt", encoded(salt));
        keys.append("storedKey", encoded(stored)).append("serverKey", encoded(mac(salted, bytes("Server Key"))));
        return new Document("SCRAM-SHA-256", keys);
    }

    private static String challenge(Conversation conversation) {
        return "r=" + conversation.nonce + ",s=" + conversation.credentials.get("salt") + ",i=" + conversation.credentials.get("iterationCount");
    }

    private static Document answer(boolean done, String payload) {
        return new Document("conversationId", 1).append("done", done).append("payload", new BinData(bytes(payload))).append("ok", 1.0);
    }

    private static MongoServerError refused() {
        return new MongoServerError(18, "AuthenticationFailed", "Authentication failed.");
    }

    private static String text(Document query) {
        Object payload = query.get("payload");
        return new String(payload instanceof BinData data ? data.getData() : (byte[]) payload, StandardCharsets.UTF_8);
    }

    private static String field(String message, String name) {
        for (String each : message.split(",")) {
            if (each.startsWith(name + "=")) {
                return each.substring(2);
            }
        }
        throw refused();
    }

    private static byte[] mac(byte[] key, byte[] data) throws GeneralSecurityException {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        return mac.doFinal(data);
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static byte[] decoded(String text) {
        return Base64.getDecoder().decode(text);
    }

    private static String encoded(byte[] data) {
        return Base64.getEncoder().encodeToString(data);
    }
}
