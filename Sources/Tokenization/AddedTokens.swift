// Finds added tokens, such as `<bos>`, in the raw text. All other steps of the tokenizer come later.

/// Finds the added token at a position of a text. If several tokens begin there, the longest one counts.
struct AddedTokens: Sendable {
    /// A trie of the tokens' bytes. Node 0 is the root.
    private var nodes: [Node] = [Node()]
    /// For each byte value, whether an added token begins with it.
    private var isFirst = [Bool](repeating: false, count: 256)

    private struct Node: Sendable {
        var token: TokenID = -1
        var children: [(byte: UInt8, node: Int32)] = []
    }

    /// Adds `content`, which must not be empty, as token `id`.
    mutating func insert(_ content: some Sequence<UInt8>, id: TokenID) {
        var node = 0
        for first in content.prefix(1) { isFirst[Int(first)] = true }
        for byte in content {
            if let child = nodes[node].children.first(where: { $0.byte == byte }) {
                node = Int(child.node)
            } else {
                nodes.append(Node())
                nodes[node].children.append((byte, Int32(nodes.count - 1)))
                node = nodes.count - 1
            }
        }
        nodes[node].token = id
    }

    /// Returns the longest added token that begins at `start`, and the offset of its end; nil if there is none.
    @inline(__always)
    func match(_ text: UnsafeBufferPointer<UInt8>, at start: Int) -> (id: TokenID, end: Int)? {
        guard isFirst[Int(text[start])] else { return nil }
        var (node, position) = (0, start)
        var best: (id: TokenID, end: Int)?
        while position < text.count,
            let child = nodes[node].children.first(where: { $0.byte == text[position] })
        {
            node = Int(child.node)
            position += 1
            if nodes[node].token >= 0 { best = (nodes[node].token, position) }
        }
        return best
    }
}
