// The settings of the Hub in the environment, by the variables that Python's huggingface_hub reads
// (huggingface_hub/constants.py).

import FoundationEssentials
import Glibc

/// Where the Hub and its cache are, and how requests are made.
public struct HubSettings: Sendable {
    /// The Hub's address without a slash at the end, from `HF_ENDPOINT`.
    public let endpoint: String
    /// Whether `HF_ENDPOINT` gives the endpoint.
    let isEndpointGiven: Bool
    /// The path of the cache's folder, which has the repositories' folders.
    public let cacheDirectory: String
    /// Whether a variable names the cache's folder itself, not a folder above it.
    let isCacheDirectoryGiven: Bool
    /// What names the cache's folder, for messages: a variable, or "the home folder of user 12345".
    public let cacheSource: String
    /// The folder in which this user's processes remember what they know of caches; nil if the user has no home folder.
    let ownFolder: String?
    /// The variable that forbids the network; nil if it is allowed.
    public let offlineVariable: String?
    /// The user's access token; nil if none is given.
    let token: AccessToken?
    /// The path of a token file that cannot be read, and the reason; nil if there is no such file, or if another token is given.
    let unreadableToken: String?
    /// Seconds in which a server must send something, for metadata and for files.
    let metadataTimeout: Double
    let bodyTimeout: Double
    /// Seconds before the first retry of a request that failed.
    let firstPause: Double
    /// The proxies that the environment names.
    let proxies: ProxySettings
    /// The certificate authorities that the environment names.
    let authorities: CertificateAuthorities
    /// The command that downloads what is missing, `sae-extract fetch …`, for messages.
    public var fetchCommand = "sae-extract fetch"
    /// The field `User-Agent` of requests.
    public var userAgent = "sae-extract"
    /// Whether downloads begin even if the cache's file system reports too little free space.
    public var ignoresFreeSpace = false

    /// The variables that set how long a server may be silent.
    static let metadataTimeoutName = "HF_HUB_ETAG_TIMEOUT"
    static let bodyTimeoutName = "HF_HUB_DOWNLOAD_TIMEOUT"

    /// Whether the network must not be used.
    public var isOffline: Bool { offlineVariable != nil }

    /// The endpoint, for messages: with the variable that names it, if one does.
    var namedEndpoint: String { isEndpointGiven ? "\(endpoint) (HF_ENDPOINT)" : endpoint }

    /// Reads `environment`. `malformed` names the variables whose values are not valid UTF-8. Throws `HubError.badSetting`, and
    /// `HubError.noHome` if nothing says where the cache is.
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
        /// Returns `text` with `~` and variables replaced, as Python does.
        func path(_ text: String) throws(HubError) -> String {
            let (used, path) = try expand(text, environment) { () throws(HubError) in
                try HubSettings.home(value("HOME"))?.path
            }
            for name in used { _ = try value(name) }
            return path
        }
        /// Returns the first of `names` that is set, and its value.
        func first(_ names: String...) throws(HubError) -> (name: String, text: String)? {
            for name in names {
                if let text = try value(name) { return (name, text) }
            }
            return nil
        }
        /// Returns Hugging Face's folder, and what names it.
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
        // By the XDG Base Directory Specification, only an absolute path counts. The folder only saves time, so a bad value is no
        // error.
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
                // Without a home folder there is no token file either.
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

    /// Returns the user's home folder without a slash at its end, and what names it. Nil if nothing does, as in a container that
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
        // The scheme in lower case, as messages and the checks of addresses expect it.
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

/// A token and its origin. Its description names only the origin, so that the token is never printed.
struct AccessToken: Sendable, CustomStringConvertible {
    /// The variable or file that holds the token, for messages.
    let source: String
    let secret: String

    var description: String { "the token from \(source)" }

    /// Takes the first of `HF_TOKEN` and `HUGGING_FACE_HUB_TOKEN` that is not empty; nil if neither is set. Throws
    /// `HubError.badSetting` if it cannot be sent.
    init?(variables value: (String) throws(HubError) -> String?) throws(HubError) {
        for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
            guard let text = try value(name).map({ trimmed($0) }), !text.isEmpty else { continue }
            try self.init(secret: text, from: name)
            return
        }
        return nil
    }

    /// Returns the token in the file at `path`, or why the file cannot be read; neither if there is no file or it is empty.
    /// Throws `HubError.badSetting` if the token cannot be sent.
    static func read(_ path: String) throws(HubError) -> (AccessToken?, unreadable: String?) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            guard errno != ENOENT, errno != ENOTDIR else { return (nil, nil) }
            return (nil, "\(path) cannot be read (\(String(cString: strerror(errno))))")
        }
        defer { close(descriptor) }
        // Far more bytes than a token has.
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
                "is not a token: it holds quotation marks, which some files of variables keep (docker --env-file); give it without them"
            )
        }
        guard secret.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw .badSetting(
                source, "is not a token: it holds spaces or characters that no token has")
        }
        (self.source, self.secret) = (source, secret)
    }
}

/// Whether the value of a switch means yes, as huggingface_hub reads it.
private func isTrue(_ value: String?) -> Bool {
    ["1", "ON", "YES", "TRUE"].contains(value?.uppercased() ?? "")
}

/// Returns `path` with `~` and `$NAME` or `${NAME}` replaced, as Python's `expanduser` and `expandvars` do, and the names of the
/// variables in it. Without a home folder, `~` stays.
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
