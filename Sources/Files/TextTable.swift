// Formats numbers and tables for people to read.

/// Returns a number of bytes with a decimal unit: "5.2 GB".
public func byteCount(_ count: Int) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB"]
    var (value, unit) = (Double(count), 0)
    while value >= 1000, unit < units.count - 1 { (value, unit) = (value / 1000, unit + 1) }
    return unit == 0 ? "\(count) bytes" : "\(decimals(value, value < 10 ? 1 : 0)) \(units[unit])"
}

/// Returns the lines of a table, whose first row is the header. Columns of whole numbers are right-aligned.
public func textTable(_ rows: [[String]]) -> [String] {
    let rows = rows.map { $0.map(printable) }
    guard let columns = rows.first?.indices else { return [] }
    let widths = columns.map { column in rows.map { $0[column].count }.max()! }
    let areNumbers = columns.map { column in
        rows.dropFirst().allSatisfy { Int($0[column]) != nil }
    }
    return rows.map { row in
        let cells = columns.map { column in
            let space = String(repeating: " ", count: widths[column] - row[column].count)
            return areNumbers[column] ? space + row[column] : row[column] + space
        }
        let line = "  " + cells.joined(separator: "  ")
        return String(line.reversed().drop { $0 == " " }.reversed())
    }
}
