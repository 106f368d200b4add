// Chooses the proxy for a host, from the environment variables that curl reads (libcurl-env(3)). libcurl gets the
// chosen proxy as an option. So messages name the proxy that libcurl uses.

import FoundationEssentials

/// The proxies that the environment names.
struct ProxySettings: Sendable {
    /// A proxy, and the environment variable that names it.
    struct Proxy: Sendable, CustomStringConvertible {
        let variable: String
        /// The proxy's URL without user and password; nil if the value of the variable is not a valid URL.
        let address: String?
        /// The user as bytes, without percent-encoding; nil if none is given.
        let user: [UInt8]?
        /// The password as bytes, without percent-encoding; nil if none is given.
        let password: [UInt8]?
        /// Texts that must not be printed: user and password as given, the password with and without
        /// percent-encoding, or a value that is not a URL.
        fileprivate let secrets: [String]

        /// The proxy for messages: "http://proxy:3128 (https_proxy)".
        var description: String { address.map { "\($0) (\(variable))" } ?? "in \(variable)" }

        /// Reads `text`, the value of `variable`.
        fileprivate init(_ text: String, from variable: String) {
            self.variable = variable
            let scheme =
                text.prefixMatch(of: /[A-Za-z][A-Za-z0-9+.\-]*:\/\//).map { String($0.0) } ?? ""
            let rest = text.dropFirst(scheme.count)
            // The password may contain `@`, so only the last `@` ends it.
            let at = rest.lastIndex(of: "@")
            let place = String(at.map { rest[rest.index(after: $0)...] } ?? rest)
            // A path in the URL of a proxy has no meaning.
            let host = place.prefix { $0 != "/" }
            address = Proxy.isHost(host) && Proxy.isScheme(scheme) ? scheme + host : nil
            guard let at else {
                // If the value is not a URL, the whole value may be a secret.
                (user, password, secrets) = (nil, nil, address == nil ? [text] : [])
                return
            }
            let parts = rest[..<at].split(
                separator: ":", maxSplits: 1, omittingEmptySubsequences: false
            ).map(String.init)
            let given = parts.count > 1 ? parts[1] : ""
            let decoded = percentDecoded(given)
            (user, password) = (percentDecoded(parts[0]), decoded)
            let plain = String(decoding: decoded, as: UTF8.self)
            secrets = [String(rest[..<at]), given, plain, percentEncoded(plain)]
                .filter { !$0.isEmpty }.sorted { $0.count > $1.count }
        }

        /// Whether `text` is a host, with or without a port.
        private static func isHost(_ text: Substring) -> Bool {
            text.wholeMatch(of: /(?:[A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?/) != nil
        }

        /// Whether `scheme` is empty or the scheme of a proxy that libcurl supports, such as `http://`.
        private static func isScheme(_ scheme: String) -> Bool {
            ["", "http://", "https://", "socks4://", "socks4a://", "socks5://", "socks5h://"]
                .contains(scheme.lowercased())
        }
    }

    private let byScheme: [String: Proxy]
    /// Hosts that are reached without a proxy: names, IP addresses and networks (`10.0.0.0/8`), in lower case. The
    /// name `example.org` also stands for `www.example.org`.
    private let exceptions: [String]

    /// Reads the proxy variables in `environment`.
    init(environment: [String: String]) {
        func first(_ names: [String]) -> Proxy? {
            for name in names {
                if let text = environment[name], !text.isEmpty { return Proxy(text, from: name) }
            }
            return nil
        }
        let all = ["all_proxy", "ALL_PROXY"]
        var byScheme: [String: Proxy] = [:]
        // `HTTP_PROXY` in capitals is not read, because a CGI web server sets this variable from a client's header.
        byScheme["http"] = first(["http_proxy"] + all)
        byScheme["https"] = first(["https_proxy", "HTTPS_PROXY"] + all)
        self.byScheme = byScheme
        let text =
            ["no_proxy", "NO_PROXY"].compactMap { environment[$0] }.first { !$0.isEmpty } ?? ""
        exceptions =
            text.split { $0 == "," || $0.isWhitespace }.map {
                trimmed($0) { $0 == "." || $0 == "[" || $0 == "]" }.lowercased()
            } + loopbackHosts
    }

    /// Returns the proxy for `url`; nil if `url` is reached without a proxy.
    func proxy(for url: URL) -> Proxy? {
        guard let proxy = byScheme[url.scheme?.lowercased() ?? ""],
            let host = url.host?.lowercased(), !isException(host)
        else { return nil }
        return proxy
    }

    /// Returns `words`, an error text of libcurl or a server, without the proxies' users and passwords.
    func redacted(_ words: String) -> String {
        byScheme.values.flatMap(\.secrets).reduce(words) { $0.replacing($1, with: "…") }
    }

    private func isException(_ host: String) -> Bool {
        let host = trimmed(host) { $0 == "." }
        guard let address = addressBytes(host) else {
            return exceptions.contains {
                $0 == "*" || !$0.isEmpty && ($0 == host || host.hasSuffix("." + $0))
            }
        }
        return exceptions.contains { exception in
            let parts = exception.split(separator: "/", maxSplits: 1)
            guard let part = parts.first, let network = addressBytes(String(part)),
                network.count == address.count
            else { return exception == "*" }
            let bits = parts.count == 1 ? 8 * address.count : Int(parts[1]) ?? -1
            return (0...8 * address.count).contains(bits)
                && (0..<bits).allSatisfy {
                    (address[$0 / 8] ^ network[$0 / 8]) & (0x80 >> ($0 % 8)) == 0
                }
        }
    }
}

/// Returns `text` with every byte replaced by `%XX`, except the unreserved characters of RFC 3986.
func percentEncoded(_ text: some StringProtocol) -> String {
    let plain = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~".utf8)
    return percentEncoded(text, but: plain.contains)
}

/// Returns the bytes of `text`, with each `%XX` replaced by the byte that it encodes.
private func percentDecoded(_ text: String) -> [UInt8] {
    var bytes: [UInt8] = []
    var rest = text.utf8[...]
    while let byte = rest.popFirst() {
        let digits = String(rest.prefix(2)) ?? ""
        if byte == UInt8(ascii: "%"), isHexadecimal(digits.lowercased(), count: 2) {
            bytes.append(UInt8(digits, radix: 16)!)
            rest = rest.dropFirst(2)
        } else {
            bytes.append(byte)
        }
    }
    return bytes
}
