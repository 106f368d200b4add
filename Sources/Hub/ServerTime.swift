// The time that a server may take.

/// Measures the time that a server takes for an exchange, and says when it is too long. Time that others need for the server's
/// bytes, such as a slow disk, does not count.
struct ServerTime {
    private let timeout: Double
    private let name: String
    private let bound: HTTPRequest.Bound
    private let start = ContinuousClock.now
    /// The time since `start` that does not count.
    private var pauses = Duration.zero
    /// When something came last, in seconds that count.
    private var lastSign = 0.0
    private var bytes = 0
    /// The start of the period that is averaged, in seconds that count, and the number of bytes at that time.
    private var span = (start: 0.0, bytes: 0)

    init(_ request: HTTPRequest) {
        (timeout, name, bound) = (request.timeout, request.timeoutName, request.bound)
    }

    private var elapsed: Double { (ContinuousClock.now - start - pauses) / .seconds(1) }

    /// Milliseconds until the next check.
    var step: Int32 { Int32(min(250, max(10, timeout * 250))) }

    /// Notes that the server has sent something: an answer's head, or `more` bytes of the body.
    mutating func note(bytes more: Int) {
        bytes += more
        lastSign = elapsed
    }

    /// Leaves out the time since `begin`, which the server did not take.
    mutating func leaveOut(since begin: ContinuousClock.Instant) {
        pauses += ContinuousClock.now - begin
    }

    /// Returns why the exchange must end; nil if it may go on.
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

    /// The message about a server that sends nothing.
    func silence(isAnswered: Bool) -> String {
        "\(isAnswered ? "no more bytes" : "no answer") within \(shortDecimals(timeout)) s (\(name))"
    }
}

/// `number` in decimal digits, without a fraction that is zero.
private func shortDecimals(_ number: Double) -> String {
    number == number.rounded() && number < 1e9 ? "\(Int(number))" : "\(number)"
}
