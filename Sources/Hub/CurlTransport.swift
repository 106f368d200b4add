// The transport of the package's trait Hub, on libcurl.
#if Hub
    import ArrayFiles
    import CCurl
    import FoundationEssentials
    import Glibc
    import Synchronization

    /// Each exchange has a thread of its own, which waits for the server and for whoever takes the bytes: libcurl reads no further
    /// before a piece is taken, so that no more than that is in memory.
    final class CurlTransport: HTTPTransport {
        /// Why libcurl cannot be used; nil where it can.
        static var absence: String? {
            ccurl_load().map {
                "libcurl (libcurl.so.4), which the Hub client needs, \(String(cString: $0)) (Debian and Ubuntu: apt-get install libcurl4 ca-certificates)"
            }
        }

        private let settings: HubSettings
        /// Those that no exchange is using, the last used at the end.
        private let idle = Mutex<[CurlSession]>([])

        /// A transport that trusts `settings`' authorities and goes through its proxies. There must be a libcurl (`absence`).
        init(_ settings: HubSettings) {
            self.settings = settings
        }

        func send(
            _ request: HTTPRequest, body: @escaping BodyReceiver
        ) async throws -> HTTPResponse {
            let wish = EndWish()
            return try await withTaskCancellationHandler {
                try await withCheckedThrowingContinuation { continuation in
                    let status = makeThread { [self] in
                        let result = Result { try perform(request, body, wish) }
                        continuation.resume(with: result)
                    }
                    if status != 0 {
                        continuation.resume(
                            throwing: NetworkFailure(
                                reason:
                                    "the system gives no thread for it (\(String(cString: strerror(status))))"
                            ))
                    }
                }
            } onCancel: {
                wish.set()
            }
        }

        private func perform(
            _ request: HTTPRequest, _ body: @escaping BodyReceiver, _ wish: EndWish
        ) throws -> HTTPResponse {
            let session = try idle.withLock { $0.popLast() } ?? CurlSession()
            defer { idle.withLock { $0.append(session) } }
            return try CurlExchange(request, body, settings).run(in: session, until: wish)
        }
    }

    /// Carries out transfers, one after the other, and keeps the connections that they leave. Used by one thread at a time.
    final class CurlSession: @unchecked Sendable {
        let multi: curl_multi

        /// Throws `NetworkFailure` where there is no memory for it.
        init() throws(NetworkFailure) {
            guard let multi = ccurl_multi_init() else { throw CurlSession.noMemory }
            self.multi = multi
        }

        deinit { ccurl_multi_cleanup(multi) }

        static let noMemory = NetworkFailure(reason: "libcurl gets no memory", isTransient: false)

        /// Ends the waiting of the thread that uses it. Any thread may.
        func wake() { _ = ccurl_multi_wakeup(multi) }
    }

    /// The wish that an exchange ends, of those who have no more use for it.
    final class EndWish: Sendable {
        private struct State {
            var isSet = false
            var session: CurlSession?
        }

        private let state = Mutex(State())

        var isSet: Bool { state.withLock(\.isSet) }

        /// Ends the exchange, or that which is about to begin.
        func set() {
            state.withLock {
                $0.isSet = true
                $0.session?.wake()
            }
        }

        /// The session that is to be woken; nil for none.
        func wakes(_ session: CurlSession?) { state.withLock { $0.session = session } }
    }
#endif
