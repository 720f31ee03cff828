import de.bwaldvogel.mongo.MongoServer;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/** The stand-in's `mongod`: reads the options that deployments use, loads the data, serves, saves what changed. */
public final class Mongod {
    private static final long SAVE_MILLISECONDS = 500;
    private static final Set<String> WITHOUT_VALUE = Set.of("--auth", "--noauth", "--bind_ip_all", "--quiet", "--ipv6");

    public static void main(String[] words) throws Exception {
        String folder = "/data/db";
        String address = "0.0.0.0";
        int port = 27017;
        boolean guarded = false;
        for (int i = 0; i < words.length; i++) {
            String name = words[i].split("=", 2)[0];
            if (WITHOUT_VALUE.contains(name)) {
                guarded |= name.equals("--auth");
                continue;
            }
            String value = words[i].contains("=") ? words[i].split("=", 2)[1] : i + 1 < words.length ? words[++i] : "";
            switch (name) {
                case "--dbpath" -> folder = value;
                case "--port" -> port = Integer.parseInt(value);
                case "--bind_ip" -> address = value.contains("0.0.0.0") || value.equals("*") ? "0.0.0.0" : value.split(",")[0];
                case "--replSet" -> refuse("no replica sets: an oplog needs the real image");
                default -> { } // of no meaning here, as the size of a cache
            }
        }
        Accounts accounts = new Accounts();
        Backend backend = new Backend(accounts, guarded);
        DataFile file = new DataFile(Path.of(folder, "data.bson"), backend);
        boolean first = !file.load();
        Map<String, String> given = System.getenv();
        if (first && given.containsKey("MONGO_INITDB_ROOT_USERNAME")) {
            accounts.createRoot(backend, given.get("MONGO_INITDB_ROOT_USERNAME"), given.get("MONGO_INITDB_ROOT_PASSWORD"));
        }
        file.save(); // from here on this is no longer the first start

        ScheduledExecutorService saver = Executors.newSingleThreadScheduledExecutor();
        saver.scheduleWithFixedDelay(() -> saved(file), SAVE_MILLISECONDS, SAVE_MILLISECONDS, TimeUnit.MILLISECONDS);
        MongoServer server = new MongoServer(backend);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            saver.shutdown();
            server.stopListening();
            saved(file);
        }));
        server.bind(address.equals("localhost") ? "127.0.0.1" : address, port);
        System.out.println("{\"msg\":\"Waiting for connections\",\"attr\":{\"port\":" + port + "}}");
    }

    private static void saved(DataFile file) {
        try {
            if (file.changed()) {
                file.save();
            }
        } catch (IOException error) {
            System.err.println("{\"msg\":\"The data cannot be written\",\"attr\":{\"error\":\"" + error + "\"}}");
        }
    }

    private static void refuse(String why) {
        System.err.println("this stand-in has " + why);
        System.exit(2);
    }
}
