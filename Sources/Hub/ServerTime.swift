// How long a server may take.

/// The time that a server has taken for an exchange, and when it is too long. What others take for its bytes, such as a slow disk, does
/// not count.
struct ServerTime {
    private let timeout: Double
    private let name: String
    private let bound: HTTPRequest.Bound
    private let start = ContinuousClock.now
    /// What did not count of the time since.
    private var pauses = Duration.zero
    /// When something came last, in seconds that count.
    private var lastSign = 0.0
    private var bytes = 0
    /// When the averaging began, and with how many bytes.
    private var span = (start: 0.0, bytes: 0)

    init(_ request: HTTPRequest) {
        (timeout, name, bound) = (request.timeout, request.timeoutName, request.bound)
    }

    private var elapsed: Double { (ContinuousClock.now - start - pauses) / .seconds(1) }

    /// Milliseconds after which to look again.
    var step: Int32 { Int32(min(250, max(10, timeout * 250))) }

    /// A sign of life: an answer's head or some of its bytes.
    mutating func note(bytes more: Int) {
        bytes += more
        lastSign = elapsed
    }

    /// What was done since `begin` was not the server's time.
    mutating func leaveOut(since begin: ContinuousClock.Instant) {
        pauses += ContinuousClock.now - begin
    }

    /// Why the exchange is to end; nil while it may go on.
    mutating func end(isAnswered: Bool) -> String? {
        let now = elapsed
        if now - lastSign > timeout { return silence(isAnswered: isAnswered) }
        switch bound {
        case .time(let times):
            guard now > Double(times) * timeout else { return nil }
            return
                "no end of the answer within \(shortDecimals(Double(times) * timeout)) s (\(times) times \(name))"
        case .rate(let rate, let times):
            let seconds = Double(times) * timeout
            guard now - span.start > seconds else { return nil }
            guard Double(bytes - span.bytes) < Double(rate) * (now - span.start) else {
                span = (now, bytes)
                return nil
            }
            return
                "less than \(rate) bytes a second for \(shortDecimals(seconds)) s (\(times) times \(name))"
        }
    }

    /// What is said of a server that says nothing.
    func silence(isAnswered: Bool) -> String {
        "\(isAnswered ? "no more bytes" : "no answer") within \(shortDecimals(timeout)) s (\(name))"
    }
}

/// `number` without a fraction that is zero.
private func shortDecimals(_ number: Double) -> String {
    number == number.rounded() && number < 1e9 ? "\(Int(number))" : "\(number)"
}
