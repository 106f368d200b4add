// The HTTP transport on libcurl. It is compiled if the package's trait `Hub` is enabled.
#if Hub
    import Files
    import CCurl
    import FoundationEssentials
    import Glibc
    import Synchronization
    import Threading

    /// Runs each exchange on its own thread, which waits for the server and for the receiver of the bytes. libcurl reads on only
    /// after the receiver has taken a piece, so no more than one piece is in memory.
    final class CurlTransport: HTTPTransport {
        /// Why libcurl cannot be used, and the packages to install; nil if it can be used.
        static var absence: String? {
            ccurl_load().map {
                "libcurl (libcurl.so.4), which the Hub client needs, \(String(cString: $0)) (Debian and Ubuntu: apt-get install libcurl4 ca-certificates)"
            }
        }

        private let settings: HubSettings
        /// The sessions that no exchange uses. The last used one is at the end.
        private let idle = Mutex<[CurlSession]>([])

        /// Creates a transport that trusts the authorities of `settings` and uses its proxies. `absence` must be nil.
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
                                    "the system cannot start a thread for the request (\(String(cString: strerror(status))))"
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

    /// Carries out transfers one after the other, and keeps their connections open. Only one thread may use it at a time.
    final class CurlSession: @unchecked Sendable {
        let multi: curl_multi

        /// Throws `NetworkFailure` if there is no memory for it.
        init() throws(NetworkFailure) {
            guard let multi = ccurl_multi_init() else { throw CurlSession.noMemory }
            self.multi = multi
        }

        deinit { ccurl_multi_cleanup(multi) }

        static let noMemory = NetworkFailure(
            reason: "libcurl cannot allocate memory", isTransient: false)

        /// Ends the wait of the thread that uses the session. Any thread may call this.
        func wake() { _ = ccurl_multi_wakeup(multi) }
    }

    /// The request to end an exchange, made when the task that waits for the exchange is cancelled.
    final class EndWish: Sendable {
        private struct State {
            var isSet = false
            var session: CurlSession?
        }

        private let state = Mutex(State())

        var isSet: Bool { state.withLock(\.isSet) }

        /// Ends the exchange that runs, or the one that is about to start.
        func set() {
            state.withLock {
                $0.isSet = true
                $0.session?.wake()
            }
        }

        /// Sets the session that `set` wakes; nil if no exchange runs.
        func wakes(_ session: CurlSession?) { state.withLock { $0.session = session } }
    }
#endif
