// Limits the time that a server may take for a response.

/// Measures the time that a server takes for an exchange, and tells when a limit is exceeded. The time in which this
/// program works, for example writes to a slow disk, does not count.
struct ServerTime {
    private let timeout: Double
    private let name: String
    private let bound: HTTPRequest.Bound
    private let start = ContinuousClock.now
    /// The part of the time since `start` that does not count.
    private var pauses = Duration.zero
    /// The value of `elapsed` when the last byte arrived.
    private var lastSign = 0.0
    private var bytes = 0
    /// The values of `elapsed` and `bytes` at the start of the current averaging period.
    private var span = (start: 0.0, bytes: 0)

    init(_ request: HTTPRequest) {
        (timeout, name, bound) = (request.timeout, request.timeoutName, request.bound)
    }

    private var elapsed: Double { (ContinuousClock.now - start - pauses) / .seconds(1) }

    /// The milliseconds until the next check.
    var step: Int32 { Int32(min(250, max(10, timeout * 250))) }

    /// Records that the server has sent the head of a response, or `more` bytes of its body.
    mutating func note(bytes more: Int) {
        bytes += more
        lastSign = elapsed
    }

    /// Excludes the time since `begin` from `elapsed`, because this program took this time, not the server.
    mutating func leaveOut(since begin: ContinuousClock.Instant) {
        pauses += ContinuousClock.now - begin
    }

    /// Returns the reason why the exchange must end; nil if it may continue.
    mutating func end(isAnswered: Bool) -> String? {
        let now = elapsed
        if now - lastSign > timeout { return silence(isAnswered: isAnswered) }
        switch bound {
        case .time(let times):
            guard now > Double(times) * timeout else { return nil }
            return
                "the answer was not complete within \(shortDecimals(Double(times) * timeout)) s (\(times) times \(name))"
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

    /// Returns the message for a server that sends nothing for `timeout` seconds.
    func silence(isAnswered: Bool) -> String {
        "\(isAnswered ? "no more bytes" : "no answer") within \(shortDecimals(timeout)) s (\(name))"
    }
}

/// Returns `number` as decimal digits: `10` for 10.0, `0.5` for 0.5.
private func shortDecimals(_ number: Double) -> String {
    number == number.rounded() && number < 1e9 ? "\(Int(number))" : "\(number)"
}
