// Sets libcurl's options for an exchange. libcurl uses no cookies, no .netrc and no compression, because no option
// enables them. libcurl follows no HTTP redirects, because `HubClient` does.
#if Hub
    import CCurl
    import FoundationEssentials
    import Glibc

    /// Sets the options of one libcurl transfer.
    struct CurlOptions {
        let easy: curl_easy

        /// The size in bytes of libcurl's receive buffer.
        private static let pieceSize = 128 << 10

        /// Sets all options except the callbacks and the headers. Throws `NetworkFailure` if libcurl refuses an
        /// option, or parses the URL differently from Foundation.
        func set(
            for request: HTTPRequest, _ settings: HubSettings, _ proxy: ProxySettings.Proxy?
        ) throws(NetworkFailure) {
            let address = request.url.absoluteString
            try CurlOptions.checkReading(of: request.url)
            try text(CURLOPT_URL, address)
            try number(CURLOPT_PATH_AS_IS, 1)
            try number(CURLOPT_PROTOCOLS, Int(CURLPROTO_HTTP | CURLPROTO_HTTPS))
            // HTTP/2 would have no advantage, because each thread waits for one response at a time.
            try number(CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_1_1))
            try number(CURLOPT_HTTP09_ALLOWED, 0)
            try number(CURLOPT_NOBODY, request.method == "HEAD" ? 1 : 0)
            try number(CURLOPT_FOLLOWLOCATION, 0)
            try number(CURLOPT_NETRC, 0)
            try number(CURLOPT_BUFFERSIZE, CurlOptions.pieceSize)
            // libcurl must not use signals for time-outs, because all threads share the signal handlers.
            try number(CURLOPT_NOSIGNAL, 1)
            // The time limit for connecting. libcurl divides it among the addresses of the host.
            try number(CURLOPT_CONNECTTIMEOUT_MS, max(1, Int(request.timeout * 1000)))
            // With this option, a cancelled transfer does not wait for the lookup of the host name. The result is
            // ignored, because libcurl before 7.87 does not have the option.
            _ = ccurl_set_number(easy, CURLOPT_QUICK_EXIT, 1)
            try set(proxy)
            try set(settings.authorities)
        }

        private func set(_ proxy: ProxySettings.Proxy?) throws(NetworkFailure) {
            // The first option keeps the head of the proxy's response out of the server's response. The second option
            // sends the request's headers only to the server, because they contain the token.
            try number(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1)
            try number(CURLOPT_HEADEROPT, Int(CURLHEADER_SEPARATE))
            // An empty string stops libcurl from reading the proxy variables of the environment.
            try text(CURLOPT_NOPROXY, "")
            guard let proxy else { return try text(CURLOPT_PROXY, "") }
            guard let address = proxy.address else {
                throw NetworkFailure(
                    reason:
                        "the value of \(proxy.variable) is not an address like http://USER:PASSWORD@HOST:PORT",
                    isTransient: false)
            }
            try text(CURLOPT_PROXY, address)
            if let user = proxy.user {
                try bytes(CURLOPT_PROXYUSERNAME, user)
            }
            if let password = proxy.password {
                try bytes(CURLOPT_PROXYPASSWORD, password)
            }
        }

        private func set(_ authorities: CertificateAuthorities) throws(NetworkFailure) {
            try number(CURLOPT_SSL_VERIFYPEER, 1)
            try number(CURLOPT_SSL_VERIFYHOST, 2)
            // If no variable names authorities, libcurl uses its default. The results of the PROXY options are
            // ignored, because not every libcurl supports TLS to a proxy.
            if let file = authorities.file?.path {
                try text(CURLOPT_CAINFO, file)
                _ = ccurl_set_text(easy, CURLOPT_PROXY_CAINFO, file)
            }
            if let folder = authorities.folder?.path {
                try text(CURLOPT_CAPATH, folder)
                _ = ccurl_set_text(easy, CURLOPT_PROXY_CAPATH, folder)
            }
        }

        private func number(_ option: curl_option, _ value: Int) throws(NetworkFailure) {
            try check(ccurl_set_number(easy, option, value))
        }

        private func text(_ option: curl_option, _ value: String) throws(NetworkFailure) {
            try check(ccurl_set_text(easy, option, value))
        }

        private func bytes(_ option: curl_option, _ value: [UInt8]) throws(NetworkFailure) {
            let text = value.map { CChar(bitPattern: $0) } + [0]
            try check(ccurl_set_text(easy, option, text))
        }

        /// Throws `NetworkFailure` unless `code`, the result of setting an option, is 0.
        func check(_ code: Int32) throws(NetworkFailure) {
            guard code == 0 else {
                throw NetworkFailure(
                    reason:
                        "libcurl refuses an option that this program needs (\(String(cString: ccurl_easy_strerror(code)))); install a newer libcurl",
                    isTransient: false)
            }
        }

        // MARK: Addresses

        /// Throws `NetworkFailure` unless libcurl and Foundation parse `url` in the same way. Foundation's result
        /// decides whether the host gets the token, so libcurl must connect to the same host.
        private static func checkReading(of url: URL) throws(NetworkFailure) {
            guard let parts = ccurl_parts_init() else { throw CurlSession.noMemory }
            defer { ccurl_parts_free(parts) }
            func part(_ part: curl_part) -> String? {
                var text: UnsafeMutablePointer<CChar>?
                guard
                    ccurl_parts_get(parts, part, &text, UInt32(CURLU_DEFAULT_PORT)) == 0, let text
                else { return nil }
                defer { ccurl_free(text) }
                return String(cString: text)
            }
            let address = url.absoluteString
            let scheme = url.scheme?.lowercased() ?? ""
            let port = url.port ?? (scheme == "https" ? 443 : 80)
            guard address.utf8.allSatisfy({ (0x21...0x7E).contains($0) }),
                ccurl_parts_set(parts, CURLUPART_URL, address, UInt32(CURLU_PATH_AS_IS)) == 0,
                part(CURLUPART_SCHEME)?.lowercased() == scheme,
                let host = url.host, isSame(part(CURLUPART_HOST) ?? "", host),
                part(CURLUPART_PORT) == "\(port)", part(CURLUPART_USER) == nil,
                part(CURLUPART_PASSWORD) == nil
            else {
                throw NetworkFailure(
                    reason:
                        "its address can be read in more than one way, so no request is sent; write an IP address in full, such as 127.0.0.1",
                    isTransient: false)
            }
        }

        /// Whether `host`, as libcurl parsed it, equals `other`: the same name, or the same IP address.
        private static func isSame(_ host: String, _ other: String) -> Bool {
            let names = [host, other].map { name in
                trimmed(name) { $0 == "[" || $0 == "]" }.lowercased()
            }
            if names[0] == names[1] {
                return names[0].utf8.allSatisfy {
                    isLetterOrDigit($0) || "-._:".utf8.contains($0)
                }
            }
            guard let address = addressBytes(names[0]) else { return false }
            return address == addressBytes(names[1])
        }

        private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
            (0x61...0x7A).contains(byte) || (0x30...0x39).contains(byte)
        }
    }
#endif
