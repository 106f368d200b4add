// One HTTP exchange with libcurl: its options, its callbacks, the transfer and its result.
#if Hub
    import CCurl
    import FoundationEssentials
    import Glibc

    /// One HTTP exchange. It is used only by the thread that runs it.
    final class CurlExchange {
        private let request: HTTPRequest
        private let receiver: BodyReceiver
        private let settings: HubSettings
        private let proxy: ProxySettings.Proxy?
        private var head = ResponseHead()
        private var time: ServerTime
        /// How a callback has ended the exchange: success if the receiver wants no more bytes, otherwise the error
        /// that the callback has thrown. Nil if no callback has ended the exchange.
        private var verdict: Result<Void, any Error>?

        init(_ request: HTTPRequest, _ receiver: @escaping BodyReceiver, _ settings: HubSettings) {
            (self.request, self.receiver, self.settings) = (request, receiver, settings)
            proxy = settings.proxies.proxy(for: request.url)
            time = ServerTime(request)
        }

        /// Runs the exchange until it ends or `wish` is set. Returns the head of the response. Throws as
        /// `HTTPTransport.send` does.
        func run(in session: CurlSession, until wish: EndWish) throws -> HTTPResponse {
            guard let easy = ccurl_easy_init() else { throw CurlSession.noMemory }
            let words = UnsafeMutablePointer<CChar>.allocate(capacity: Int(CURL_ERROR_SIZE))
            words.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
            var headers: curl_list?
            defer {
                ccurl_easy_cleanup(easy)
                ccurl_list_free(headers)
                words.deallocate()
            }
            for (name, value) in request.headers {
                guard let longer = ccurl_list_append(headers, "\(name): \(value)") else {
                    throw CurlSession.noMemory
                }
                headers = longer
            }
            try CurlOptions(easy: easy).set(for: request, settings, proxy)
            try setCallbacks(of: easy, words, headers)
            wish.wakes(session)
            defer { wish.wakes(nil) }
            let code = try transfer(easy, session, wish)
            if let response = head.response, case .success? = verdict { return response }
            try verdict?.get()
            guard code == 0 else {
                throw failure(code, String(cString: words), connect: ccurl_connect_status(easy))
            }
            guard let response = head.response else {
                throw NetworkFailure(
                    reason: "the connection was lost before the answer's headers were complete")
            }
            return response
        }

        /// Runs the transfer until it ends or a callback sets `verdict`. Returns libcurl's CURLcode, which means
        /// nothing if `verdict` is set.
        private func transfer(
            _ easy: curl_easy, _ session: CurlSession, _ wish: EndWish
        ) throws -> Int32 {
            guard ccurl_multi_add_handle(session.multi, easy) == 0 else {
                throw CurlSession.noMemory
            }
            defer { _ = ccurl_multi_remove_handle(session.multi, easy) }
            while true {
                var running: Int32 = 0
                guard !wish.isSet else { throw CancellationError() }
                guard ccurl_multi_perform(session.multi, &running) == 0 else {
                    throw CurlSession.noMemory
                }
                guard verdict == nil, running > 0 else {
                    return ccurl_multi_result(session.multi)
                }
                if let reason = time.end(isAnswered: head.response != nil) {
                    throw NetworkFailure(reason: reason)
                }
                guard ccurl_multi_wait(session.multi, time.step) == 0 else {
                    throw CurlSession.noMemory
                }
            }
        }

        // MARK: Callbacks

        private func setCallbacks(
            of easy: curl_easy, _ words: UnsafeMutablePointer<CChar>, _ headers: curl_list?
        ) throws(NetworkFailure) {
            let options = CurlOptions(easy: easy)
            let own = Unmanaged.passUnretained(self).toOpaque()
            try options.check(ccurl_set_pointer(easy, CURLOPT_ERRORBUFFER, words))
            try options.check(ccurl_set_list(easy, CURLOPT_HTTPHEADER, headers))
            try options.check(ccurl_set_pointer(easy, CURLOPT_HEADERDATA, own))
            try options.check(ccurl_set_pointer(easy, CURLOPT_WRITEDATA, own))
            try options.check(
                ccurl_set_receiver(easy, CURLOPT_HEADERFUNCTION) { bytes, size, count, own in
                    CurlExchange.take(bytes, size * count, own) { try $0.addLine($1) }
                })
            try options.check(
                ccurl_set_receiver(easy, CURLOPT_WRITEFUNCTION) { bytes, size, count, own in
                    CurlExchange.take(bytes, size * count, own) { try $0.addPiece($1) }
                })
        }

        /// Passes `count` bytes from libcurl to `add`. `own` points to the exchange. Returns `count` if the exchange
        /// wants more bytes. Any other result makes libcurl end the transfer.
        private static func take(
            _ bytes: UnsafeMutablePointer<CChar>?, _ count: Int, _ own: UnsafeMutableRawPointer?,
            _ add: (CurlExchange, UnsafeRawBufferPointer) throws -> Bool
        ) -> Int {
            let exchange = Unmanaged<CurlExchange>.fromOpaque(own!).takeUnretainedValue()
            let refusal = count == 0 ? 1 : 0
            guard exchange.verdict == nil else { return refusal }
            let begin = ContinuousClock.now
            defer { exchange.time.leaveOut(since: begin) }
            do {
                if try add(exchange, UnsafeRawBufferPointer(start: bytes, count: count)) {
                    return count
                }
                exchange.verdict = .success(())
            } catch {
                exchange.verdict = .failure(error)
            }
            return refusal
        }

        private func addLine(_ line: UnsafeRawBufferPointer) throws -> Bool {
            let wasWhole = head.response != nil
            try head.add(line)
            guard !wasWhole, let response = head.response else { return true }
            time.note(bytes: 0)
            // A response to HEAD has no body. So the transfer ends by itself, and its connection can be reused.
            return try receiver(response, UnsafeRawBufferPointer(start: nil, count: 0))
                || request.method == "HEAD"
        }

        private func addPiece(_ piece: UnsafeRawBufferPointer) throws -> Bool {
            guard let response = head.response else {
                throw NetworkFailure(reason: "the answer is not HTTP: it has no status line")
            }
            guard !piece.isEmpty else { return true }
            time.note(bytes: piece.count)
            return try receiver(response, piece)
        }

        // MARK: Failures

        private func failure(_ code: Int32, _ words: String, connect: Int) -> NetworkFailure {
            CurlFailure(
                code: code,
                words: settings.proxies.redacted(
                    words.isEmpty ? String(cString: ccurl_easy_strerror(code)) : words),
                connectStatus: connect, isAnswered: head.response != nil
            ).meaning(request, proxy, settings.authorities)
        }
    }
#endif
