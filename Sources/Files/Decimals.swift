import Glibc

/// Returns `value` with `places` digits after the decimal point, rounded as C's `printf` rounds.
public func decimals(_ value: Double, _ places: Int) -> String {
    withVaList([Int32(places), value]) { arguments in
        // The largest `Double` has 309 digits before the decimal point.
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 400 + places) { text in
            _ = vsnprintf(text.baseAddress!, text.count, "%.*f", arguments)
            return String(cString: text.baseAddress!)
        }
    }
}

/// Returns a count with its noun: "1 author", "2 authors".
public func counted(_ count: Int, _ noun: String) -> String {
    "\(count) \(noun)\(count == 1 ? "" : "s")"
}
