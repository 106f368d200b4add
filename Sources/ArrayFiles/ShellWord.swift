/// `text` as a shell takes it for one word.
public func shellWord(_ text: String) -> String {
    text.wholeMatch(of: /[A-Za-z0-9_.,:=\/@%+-]+/) != nil
        ? text : "'" + text.replacing("'", with: "'\\''") + "'"
}
