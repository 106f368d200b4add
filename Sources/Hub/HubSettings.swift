// What the environment says about the Hub, by the variables that Python's huggingface_hub reads
// (huggingface_hub/constants.py).

import FoundationEssentials
import Glibc

/// Where the Hub and its cache are, and how to behave towards it.
public struct HubSettings: Sendable {
    /// The Hub's address without a slash at the end: `HF_ENDPOINT`.
    public let endpoint: String
    /// Whether `HF_ENDPOINT` says so.
    let isEndpointGiven: Bool
    /// The folder of the cache.
    public let cacheDirectory: String
    /// Whether a variable names it itself, and not a folder above it.
    let isCacheDirectoryGiven: Bool
    /// What names it, for messages: a variable, or "the home folder of user 12345".
    public let cacheSource: String
    /// The folder for what this user's processes remember of caches; nil where the user has no home.
    let ownFolder: String?
    /// The variable that forbids the network; nil where it is allowed.
    public let offlineVariable: String?
    /// Who one is to the Hub, if one says so.
    let token: AccessToken?
    /// A file that may hold a token and cannot be read, with the reason; nil where there is none, or another token.
    let unreadableToken: String?
    /// Seconds in which a server must send something: metadata and bodies.
    let metadataTimeout: Double
    let bodyTimeout: Double
    /// Seconds before the first repetition of a request that failed.
    let firstPause: Double
    /// The proxies that the environment names.
    let proxies: ProxySettings
    /// Whose certificates are trusted.
    let authorities: CertificateAuthorities
    /// How a user gets what is missing, `sae-extract fetch …`, for messages.
    public var fetchCommand = "sae-extract fetch"
    /// What requests say they come from.
    public var userAgent = "sae-extract"
    /// Whether downloads begin even where the cache's file system says that it has not the room.
    public var ignoresFreeSpace = false

    /// The variables that say how long a server may be silent.
    static let metadataTimeoutName = "HF_HUB_ETAG_TIMEOUT"
    static let bodyTimeoutName = "HF_HUB_DOWNLOAD_TIMEOUT"

    /// Whether the network is not to be used.
    public var isOffline: Bool { offlineVariable != nil }

    /// The endpoint with the variable that names it, if one does.
    var namedEndpoint: String { isEndpointGiven ? "\(endpoint) (HF_ENDPOINT)" : endpoint }

    /// Reads `environment`, of whose variables those in `malformed` are not valid UTF-8. Throws `HubError.badSetting`, and
    /// `HubError.noHome` where nothing says where the cache is.
    public init(
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
        /// `text` with `~` and variables replaced, as Python does.
        func path(_ text: String) throws(HubError) -> String {
            let (used, path) = try expand(text, environment) { () throws(HubError) in
                try HubSettings.home(value("HOME"))?.path
            }
            for name in used { _ = try value(name) }
            return path
        }
        /// The first of `names` that is set.
        func first(_ names: String...) throws(HubError) -> (name: String, text: String)? {
            for name in names {
                if let text = try value(name) { return (name, text) }
            }
            return nil
        }
        /// Hugging Face's folder, and what names it.
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
        // After the XDG Base Directory Specification, which counts absolute paths alone. Nothing depends on it but time.
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
                // Without a home there is no such file either.
                file = (try? hubHome().path).map { $0 + "/token" } ?? ""
            }
            (token, unreadableToken) = try AccessToken.read(file)
        }
        func seconds(_ name: String, _ standard: Double) throws(HubError) -> Double {
            guard let text = try value(name) else { return standard }
            guard let number = Double(text), number > 0, number <= 86400 else {
                throw .badSetting(
                    name, "'\(text)' is not a number of seconds; give one, or unset it")
            }
            return number
        }
        metadataTimeout = try seconds(HubSettings.metadataTimeoutName, 10)
        bodyTimeout = try seconds(HubSettings.bodyTimeoutName, 10)
        firstPause = try seconds("SAE_EXTRACT_RETRY_SECONDS", 1)
        proxies = ProxySettings(environment: environment)
        authorities = CertificateAuthorities(environment: environment)
    }

    /// The user's home folder without a slash at its end, and what names it. Nil where nothing does, as in a container that
    /// runs as a user whom it does not know.
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
        // As messages and the checks of addresses have it.
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
                "holds a user or password, which would show in logs; give a token in HF_TOKEN")
        }
        return endpoint
    }
}

/// A token and where it comes from. It has no description of its own, so that none is ever printed.
struct AccessToken: Sendable, CustomStringConvertible {
    /// The variable or file, for messages.
    let source: String
    let secret: String

    var description: String { "the token from \(source)" }

    /// The first of `HF_TOKEN` and `HUGGING_FACE_HUB_TOKEN` that has one. Throws `HubError.badSetting` where it cannot be
    /// sent.
    init?(variables value: (String) throws(HubError) -> String?) throws(HubError) {
        for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
            guard let text = try value(name).map({ trimmed($0) }), !text.isEmpty else { continue }
            try self.init(secret: text, from: name)
            return
        }
        return nil
    }

    /// The token in the file at `path`, or why it cannot be read; neither where there is no file. Throws
    /// `HubError.badSetting` where it cannot be sent.
    static func read(_ path: String) throws(HubError) -> (AccessToken?, unreadable: String?) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            guard errno != ENOENT, errno != ENOTDIR else { return (nil, nil) }
            return (nil, "\(path) cannot be read (\(String(cString: strerror(errno))))")
        }
        defer { close(descriptor) }
        // Far more than a token has.
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
                "is not a token: it holds quotation marks, which some files of variables keep (docker --env-file); give it without"
            )
        }
        guard secret.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw .badSetting(
                source, "is not a token: it holds spaces or characters that no token has")
        }
        (self.source, self.secret) = (source, secret)
    }
}

/// As huggingface_hub reads a switch.
private func isTrue(_ value: String?) -> Bool {
    ["1", "ON", "YES", "TRUE"].contains(value?.uppercased() ?? "")
}

/// `path` with `~` and `$NAME` or `${NAME}` replaced, as Python's `expanduser` and `expandvars` do, and the names of the
/// variables in it. Where there is no home, `~` stays.
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
