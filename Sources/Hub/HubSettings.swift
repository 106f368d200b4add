// The settings of the Hub, from the environment variables of Python's huggingface_hub (constants.py).

import FoundationEssentials
import Glibc

/// The settings of the Hub, of its cache and of requests.
package struct HubSettings: Sendable {
    /// The Hub's URL without a slash at its end, from `HF_ENDPOINT`.
    package let endpoint: String
    /// Whether `HF_ENDPOINT` is set.
    let isEndpointGiven: Bool
    /// The path of the cache, a folder that contains the repositories' folders.
    package let cacheDirectory: String
    /// Whether a variable names the cache's folder itself (`HF_HUB_CACHE`), not a folder above it (`HF_HOME`).
    let isCacheDirectoryGiven: Bool
    /// What names the cache's folder, for messages: a variable, or a text such as "the home folder of user 12345".
    package let cacheSource: String
    /// The folder in which this user's processes store which contents they have hashed. Nil if neither
    /// `XDG_CACHE_HOME` nor a home folder gives its path.
    let ownFolder: String?
    /// The variable that forbids the network; nil if the network is allowed.
    package let offlineVariable: String?
    /// The user's access token; nil if none is given.
    let token: AccessToken?
    /// The path of a token file that is needed but cannot be read, with the reason; nil if no such file exists.
    let unreadableToken: String?
    /// A request for metadata fails if no byte arrives for this number of seconds.
    let metadataTimeout: Double
    /// A download of a file fails if no byte arrives for this number of seconds.
    let bodyTimeout: Double
    /// The seconds before the first retry of a failed request.
    let firstPause: Double
    /// The proxies that the environment names.
    let proxies: ProxySettings
    /// The certificate authorities that the environment names.
    let authorities: CertificateAuthorities
    /// The command that downloads the missing files, such as `sae-extract fetch …`, for messages.
    package var fetchCommand = "sae-extract fetch"
    /// The value of the header `User-Agent` in requests.
    package var userAgent = "sae-extract"
    /// Whether downloads start even if the cache's file system reports too little free space.
    package var ignoresFreeSpace = false

    /// The variable that sets `metadataTimeout`.
    static let metadataTimeoutName = "HF_HUB_ETAG_TIMEOUT"
    /// The variable that sets `bodyTimeout`.
    static let bodyTimeoutName = "HF_HUB_DOWNLOAD_TIMEOUT"

    /// Whether the network must not be used.
    package var isOffline: Bool { offlineVariable != nil }

    /// The endpoint for messages, followed by `(HF_ENDPOINT)` if that variable is set.
    var namedEndpoint: String { isEndpointGiven ? "\(endpoint) (HF_ENDPOINT)" : endpoint }

    /// Reads the settings from `environment`. `malformed` names the variables whose values are not valid UTF-8.
    /// Throws `HubError.badSetting` for an invalid value, and `HubError.noHome` if the cache's folder is unknown.
    package init(
        environment: [String: String], malformed: Set<String> = []
    ) throws(HubError) {
        func value(_ name: String) throws(HubError) -> String? {
            guard !malformed.contains(name) else {
                throw .badSetting(
                    name,
                    "is not valid UTF-8; give another value, or rename the file or folder that it names"
                )
            }
            return environment[name].flatMap { $0.isEmpty ? nil : $0 }
        }
        /// Returns `text` with `~` and variables expanded, as Python does.
        func path(_ text: String) throws(HubError) -> String {
            let (used, path) = try expand(text, environment) { () throws(HubError) in
                try HubSettings.home(value("HOME"))?.path
            }
            for name in used { _ = try value(name) }
            return path
        }
        /// Returns the name and value of the first variable in `names` that is set; nil if none is set.
        func first(_ names: String...) throws(HubError) -> (name: String, text: String)? {
            for name in names {
                if let text = try value(name) { return (name, text) }
            }
            return nil
        }
        /// Returns the path of Hugging Face's folder, and what names this folder.
        func hubHome() throws(HubError) -> (source: String, path: String) {
            if let (name, text) = try first("HF_HOME") { return (name, try path(text)) }
            if let (name, text) = try first("XDG_CACHE_HOME") {
                return (name, try path(text + "/huggingface"))
            }
            guard let home = HubSettings.home(try value("HOME")) else {
                throw .noHome(user: Int(getuid()))
            }
            return (home.source, try path("\(home.path)/.cache/huggingface"))
        }
        if let (name, text) = try first("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE") {
            (cacheSource, cacheDirectory) = (name, try path(text))
            isCacheDirectoryGiven = true
        } else {
            let home = try hubHome()
            (cacheSource, cacheDirectory) = (home.source, home.path + "/hub")
            isCacheDirectoryGiven = false
        }
        // A relative path is ignored, as the XDG Base Directory Specification demands. An invalid value is not an
        // error, because `ownFolder` only saves time.
        if let caches = try? value("XDG_CACHE_HOME"), caches.hasPrefix("/") {
            ownFolder = caches + "/sae-extract"
        } else {
            let home = (try? value("HOME")).flatMap { HubSettings.home($0) }
            ownFolder = home.map { $0.path + "/.cache/sae-extract" }
        }
        let given = try value("HF_ENDPOINT")
        isEndpointGiven = given != nil
        endpoint = try HubSettings.endpoint(given ?? "https://huggingface.co")
        var offline: String?
        for name in ["TRANSFORMERS_OFFLINE", "HF_HUB_OFFLINE"] where isTrue(try value(name)) {
            offline = name
        }
        offlineVariable = offline
        if isTrue(try value("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
            (token, unreadableToken) = (nil, nil)
        } else if let found = try AccessToken(variables: value) {
            (token, unreadableToken) = (found, nil)
        } else {
            let file: String
            if let (_, text) = try first("HF_TOKEN_PATH") {
                file = try path(text)
            } else {
                // Without a home folder, no token file exists.
                file = (try? hubHome().path).map { $0 + "/token" } ?? ""
            }
            (token, unreadableToken) = try AccessToken.read(file)
        }
        func seconds(_ name: String, _ standard: Double) throws(HubError) -> Double {
            guard let text = try value(name) else { return standard }
            guard let number = Double(text), number > 0, number <= 86400 else {
                throw .badSetting(
                    name,
                    "'\(text)' is invalid; expected a number of seconds, more than 0 and at most 86400; correct or unset the variable"
                )
            }
            return number
        }
        metadataTimeout = try seconds(HubSettings.metadataTimeoutName, 10)
        bodyTimeout = try seconds(HubSettings.bodyTimeoutName, 10)
        firstPause = try seconds("SAE_EXTRACT_RETRY_SECONDS", 1)
        proxies = ProxySettings(environment: environment)
        authorities = CertificateAuthorities(environment: environment)
    }

    /// Returns the user's home folder: `path` without a slash at its end, and `source`, which says in messages where
    /// the path comes from. Nil if `HOME` is not set and the system knows no home folder, as in a container that runs
    /// as an unknown user.
    private static func home(_ variable: String?) -> (source: String, path: String)? {
        func trimmed(_ path: String) -> String {
            var path = path
            while path.hasSuffix("/") { path.removeLast() }
            return path
        }
        if let variable { return ("HOME", trimmed(variable)) }
        guard let entry = getpwuid(getuid()), let folder = entry.pointee.pw_dir else { return nil }
        return ("the home folder of user \(getuid())", trimmed(String(cString: folder)))
    }

    private static func endpoint(_ text: String) throws(HubError) -> String {
        var endpoint = text
        while endpoint.hasSuffix("/") { endpoint.removeLast() }
        // The scheme in lower case, because messages and checks of URLs expect it in lower case.
        for scheme in ["http://", "https://"] where endpoint.lowercased().hasPrefix(scheme) {
            endpoint = scheme + endpoint.dropFirst(scheme.count)
        }
        guard let url = URL(string: endpoint),
            ["http", "https"].contains(url.scheme),
            url.host?.isEmpty == false, url.query == nil, url.fragment == nil
        else {
            throw .badSetting(
                "HF_ENDPOINT", "is not an address like https://huggingface.co; correct or unset it")
        }
        guard url.user == nil, url.password == nil else {
            throw .badSetting(
                "HF_ENDPOINT",
                "contains a user or password, which log lines would show; remove it, and give a token in HF_TOKEN"
            )
        }
        return endpoint
    }
}

/// A token and its source. `description` names only the source, so that the token is never printed.
struct AccessToken: Sendable, CustomStringConvertible {
    /// The variable or file that holds the token, for messages.
    let source: String
    let secret: String

    var description: String { "the token from \(source)" }

    /// Takes the token from `HF_TOKEN` or, if this variable is empty or not set, from `HUGGING_FACE_HUB_TOKEN`. Nil
    /// if both are empty or not set. Throws `HubError.badSetting` for an invalid token.
    init?(variables value: (String) throws(HubError) -> String?) throws(HubError) {
        for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
            guard let text = try value(name).map({ trimmed($0) }), !text.isEmpty else { continue }
            try self.init(secret: text, from: name)
            return
        }
        return nil
    }

    /// Returns the token in the file at `path`, or the reason why the file cannot be read. Returns neither if the
    /// file does not exist or is empty. Throws `HubError.badSetting` for an invalid token.
    static func read(_ path: String) throws(HubError) -> (AccessToken?, unreadable: String?) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            guard errno != ENOENT, errno != ENOTDIR else { return (nil, nil) }
            return (nil, "\(path) cannot be read (\(String(cString: strerror(errno))))")
        }
        defer { close(descriptor) }
        // A token has far fewer bytes.
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        let count = Glibc.read(descriptor, &bytes, bytes.count)
        guard count >= 0 else {
            return (nil, "\(path) cannot be read (\(String(cString: strerror(errno))))")
        }
        let text = trimmed(String(decoding: bytes[..<count], as: UTF8.self))
        return text.isEmpty ? (nil, nil) : (try AccessToken(secret: text, from: path), nil)
    }

    private init(secret: String, from source: String) throws(HubError) {
        let quotes: Set<Character> = ["\"", "'", "`", "“", "”", "‘", "’"]
        guard !secret.contains(where: quotes.contains) else {
            throw .badSetting(
                source,
                "is not a token: it contains quotation marks, which some tools keep (docker --env-file); write the token without quotation marks"
            )
        }
        guard secret.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw .badSetting(
                source,
                "is not a token: it contains spaces or other characters that no token has; copy the token again"
            )
        }
        (self.source, self.secret) = (source, secret)
    }
}

/// Whether the value of a boolean variable means true, by huggingface_hub's rules.
private func isTrue(_ value: String?) -> Bool {
    ["1", "ON", "YES", "TRUE"].contains(value?.uppercased() ?? "")
}

/// Expands `~`, `$NAME` and `${NAME}` in `path`, as Python's `expanduser` and `expandvars` do. Returns the result,
/// and the names of the variables. Without a home folder, `~` stays.
private func expand<E: Error>(
    _ path: String, _ environment: [String: String], home: () throws(E) -> String?
) throws(E) -> (variables: [String], path: String) {
    var path = path
    if path == "~" || path.hasPrefix("~/"), let home = try home() {
        path = home + path.dropFirst()
        if path.isEmpty { path = "/" }
    }
    var names: [String] = []
    path = path.replacing(/\$(?:([A-Za-z0-9_]+)|\{([^}]*)\})/) { match in
        let name = String(match.1 ?? match.2 ?? "")
        names.append(name)
        return environment[name] ?? String(match.0)
    }
    return (names, path)
}
