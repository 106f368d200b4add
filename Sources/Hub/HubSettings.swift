// What the environment says about the Hub, by the variables that Python's huggingface_hub reads
// (huggingface_hub/constants.py).

import FoundationEssentials
import Glibc

/// Where the Hub and its cache are, and how to behave towards it.
public struct HubSettings: Sendable {
    /// The Hub's address without a slash at the end: `HF_ENDPOINT`.
    public let endpoint: String
    /// The folder of the cache.
    public let cacheDirectory: String
    /// The variable that forbids the network; nil where it is allowed.
    public let offlineVariable: String?
    /// Who one is to the Hub, if one says so.
    let token: AccessToken?
    /// Seconds in which a server must send something: metadata and bodies.
    let metadataTimeout: Double
    let bodyTimeout: Double
    /// Seconds before the first repetition of a request that failed.
    let firstPause: Double
    /// How a user gets what is missing, `sae-extract fetch …`, for messages.
    public var fetchCommand = "sae-extract fetch"
    /// What requests say they come from.
    public var userAgent = "sae-extract"
    /// Whether downloads begin even where the cache's file system says that it has not the room.
    public var ignoresFreeSpace = false

    /// Whether the network is not to be used.
    public var isOffline: Bool { offlineVariable != nil }

    /// Reads `environment`. Throws `HubError.badSetting`.
    public init(environment: [String: String]) throws(HubError) {
        func value(_ name: String) -> String? {
            environment[name].flatMap { $0.isEmpty ? nil : $0 }
        }
        let home = value("HOME") ?? FileManager.default.homeDirectoryForCurrentUser.path
        func path(_ text: String) -> String { expand(text, home, environment) }
        let hubHome = path(
            value("HF_HOME") ?? (value("XDG_CACHE_HOME") ?? "\(home)/.cache") + "/huggingface")
        cacheDirectory = path(
            value("HF_HUB_CACHE") ?? value("HUGGINGFACE_HUB_CACHE") ?? "\(hubHome)/hub")
        endpoint = try HubSettings.endpoint(value("HF_ENDPOINT") ?? "https://huggingface.co")
        offlineVariable = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].first { isTrue(value($0)) }
        token =
            isTrue(value("HF_HUB_DISABLE_IMPLICIT_TOKEN"))
            ? nil
            : try AccessToken(
                environment: environment,
                file: path(value("HF_TOKEN_PATH") ?? "\(hubHome)/token"))
        func seconds(_ name: String, _ standard: Double) throws(HubError) -> Double {
            guard let text = value(name) else { return standard }
            guard let number = Double(text), number > 0, number <= 86400 else {
                throw .badSetting(
                    name, "'\(text)' is not a number of seconds; give one, or unset it")
            }
            return number
        }
        metadataTimeout = try seconds("HF_HUB_ETAG_TIMEOUT", 10)
        bodyTimeout = try seconds("HF_HUB_DOWNLOAD_TIMEOUT", 10)
        firstPause = try seconds("SAE_EXTRACT_RETRY_SECONDS", 1)
    }

    private static func endpoint(_ text: String) throws(HubError) -> String {
        var endpoint = text
        while endpoint.hasSuffix("/") { endpoint.removeLast() }
        // URLSession knows schemes in lower case only.
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

    /// The first of `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN` and the file. Throws `HubError.badSetting` where it cannot
    /// be sent.
    init?(environment: [String: String], file: String) throws(HubError) {
        let found = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].lazy.compactMap { name in
            environment[name].flatMap(AccessToken.token(in:)).map { (source: name, secret: $0) }
        }.first
        if let found {
            (source, secret) = found
        } else if let text = try? String(contentsOfFile: file, encoding: .utf8),
            let content = AccessToken.token(in: text)
        {
            (source, secret) = (file, content)
        } else {
            return nil
        }
        guard secret.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw .badSetting(
                source, "is not a token: it holds spaces or characters that no token has")
        }
    }

    private static func token(in text: String) -> String? {
        let token = trimmed(text)
        return token.isEmpty ? nil : token
    }
}

/// As huggingface_hub reads a switch.
private func isTrue(_ value: String?) -> Bool {
    ["1", "ON", "YES", "TRUE"].contains(value?.uppercased() ?? "")
}

/// `path` with `~` and `$NAME` or `${NAME}` replaced, as Python's `expanduser` and `expandvars` do.
private func expand(_ path: String, _ home: String, _ environment: [String: String]) -> String {
    var path = path
    if path == "~" || path.hasPrefix("~/") { path = home + path.dropFirst() }
    return path.replacing(/\$(?:([A-Za-z0-9_]+)|\{([^}]*)\})/) { match in
        let name = String(match.1 ?? match.2 ?? "")
        return environment[name] ?? String(match.0)
    }
}
