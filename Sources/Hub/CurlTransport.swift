// The HTTP transport on libcurl. It is compiled only if the package trait `Hub` is enabled.
#if Hub
    import Files
    import CCurl
    import FoundationEssentials
    import Glibc
    import Synchronization
    import Threading

    /// Runs each exchange on its own thread and passes each received piece to the receiver. libcurl reads the next
    /// piece only after the receiver has returned, so at most one piece is in memory.
    final class CurlTransport: HTTPTransport {
        /// Why libcurl cannot be used, and which packages to install; nil if libcurl can be used.
        static var absence: String? {
            ccurl_load().map {
                "libcurl (libcurl.so.4), which the Hub client needs, \(String(cString: $0)) (Debian and Ubuntu: apt-get install libcurl4 ca-certificates)"
            }
        }

        private let settings: HubSettings
        /// The sessions that no exchange uses. The most recently used session is at the end.
        private let idle = Mutex<[CurlSession]>([])

        /// Creates a transport that uses the authorities and proxies of `settings`. Requires that `absence` is nil.
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
                                    "the system cannot start a thread for the request (\(String(cString: strerror(status)))); end other processes, or raise the limit (ulimit -u)"
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

    /// Carries out transfers one after the other, and keeps their connections open for reuse. Only one thread at a
    /// time may use a session, but any thread may call `wake`.
    final class CurlSession: @unchecked Sendable {
        let multi: curl_multi

        /// Throws `NetworkFailure` if libcurl cannot allocate memory.
        init() throws(NetworkFailure) {
            guard let multi = ccurl_multi_init() else { throw CurlSession.noMemory }
            self.multi = multi
        }

        deinit { ccurl_multi_cleanup(multi) }

        static let noMemory = NetworkFailure(
            reason: "libcurl cannot allocate memory; end other processes", isTransient: false)

        /// Ends the wait of the thread that uses the session. Any thread may call this function.
        func wake() { _ = ccurl_multi_wakeup(multi) }
    }

    /// A request to end an exchange. It is set when the task that waits for the exchange is cancelled.
    final class EndWish: Sendable {
        private struct State {
            var isSet = false
            var session: CurlSession?
        }

        private let state = Mutex(State())

        var isSet: Bool { state.withLock(\.isSet) }

        /// Ends the running exchange, or the exchange that is about to start.
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
