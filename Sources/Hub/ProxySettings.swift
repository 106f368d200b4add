// Which proxy stands on the way to a host. The variables are those that curl reads (libcurl-env(3)); what they say is decided here,
// and libcurl is told, so that messages name the proxy that was asked.

import FoundationEssentials

/// The proxies that the environment names.
struct ProxySettings: Sendable {
    /// One of them.
    struct Proxy: Sendable, CustomStringConvertible {
        let variable: String
        /// Without user and password; nil where the variable holds no address.
        let address: String?
        /// As they are, not as an address has them.
        let user: [UInt8]?
        let password: [UInt8]?
        /// What must not be printed: user and password as they are in the variable, and the password in every form.
        fileprivate let secrets: [String]

        /// "http://proxy:3128 (https_proxy)".
        var description: String { address.map { "\($0) (\(variable))" } ?? "in \(variable)" }

        /// The proxy at `text`, the value of `variable`.
        fileprivate init(_ text: String, from variable: String) {
            self.variable = variable
            let scheme =
                text.prefixMatch(of: /[A-Za-z][A-Za-z0-9+.\-]*:\/\//).map { String($0.0) } ?? ""
            let rest = text.dropFirst(scheme.count)
            // A password may have the sign too.
            let at = rest.lastIndex(of: "@")
            let place = String(at.map { rest[rest.index(after: $0)...] } ?? rest)
            // A path says nothing.
            let host = place.prefix { $0 != "/" }
            address = Proxy.isHost(host) && Proxy.isScheme(scheme) ? scheme + host : nil
            guard let at else {
                // What is no address may be all secret.
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

        /// Whether `text` is a host with or without a port.
        private static func isHost(_ text: Substring) -> Bool {
            text.wholeMatch(of: /(?:[A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?/) != nil
        }

        /// Whether libcurl knows a kind of proxies by `scheme`, the beginning of an address or nothing.
        private static func isScheme(_ scheme: String) -> Bool {
            ["", "http://", "https://", "socks4://", "socks4a://", "socks5://", "socks5h://"]
                .contains(scheme.lowercased())
        }
    }

    private let byScheme: [String: Proxy]
    /// Hosts that are reached without, in lower case: names, which stand for what ends in them too, addresses, and networks
    /// (`10.0.0.0/8`).
    private let exceptions: [String]

    /// Reads `environment`.
    init(environment: [String: String]) {
        func first(_ names: [String]) -> Proxy? {
            for name in names {
                if let text = environment[name], !text.isEmpty { return Proxy(text, from: name) }
            }
            return nil
        }
        let all = ["all_proxy", "ALL_PROXY"]
        var byScheme: [String: Proxy] = [:]
        // HTTP_PROXY in capitals is what a web server makes of a client's header, and is not taken.
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

    /// The proxy on the way to `url`; nil where there is none.
    func proxy(for url: URL) -> Proxy? {
        guard let proxy = byScheme[url.scheme?.lowercased() ?? ""],
            let host = url.host?.lowercased(), !isException(host)
        else { return nil }
        return proxy
    }

    /// The words of others without the proxies' passwords.
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

/// `text` with everything but RFC 3986's unreserved characters as `%XX`.
func percentEncoded(_ text: some StringProtocol) -> String {
    let plain = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~".utf8)
    return percentEncoded(text, but: plain.contains)
}

/// The bytes of `text` with each `%XX` replaced by the byte that it stands for.
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
