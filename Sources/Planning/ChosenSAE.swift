// The SAE chosen for a hook.

import Hooks

/// The SAE chosen for a hook.
package struct ChosenSAE: Codable, Sendable {
    /// The hook whose activations the SAE encodes.
    package let hook: HookPoint
    /// The SAE's path in its repository.
    package let id: SAEIdentifier
    /// The folder of the SAE's files.
    package let directory: String
    /// The origin of a downloaded SAE; nil for a local SAE.
    package let origin: HubOrigin?

    /// Creates the choice of the SAE `id` in the folder `directory` for `hook`.
    package init(hook: HookPoint, id: SAEIdentifier, directory: String, origin: HubOrigin? = nil) {
        (self.hook, self.id, self.directory, self.origin) = (hook, id, directory, origin)
    }
}
