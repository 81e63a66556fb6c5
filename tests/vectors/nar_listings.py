"""Listings of sample trees, vectors-nix.md section 6. The order of members is free."""

__all__ = ["LISTINGS"]

LISTINGS = {
    "one-byte": '{"version":1,"root":{"type":"regular","size":1,"narOffset":96}}',
    "exec": '{"version":1,"root":{"type":"regular","size":10,"executable":true,"narOffset":128}}',
    "link": '{"version":1,"root":{"type":"symlink","target":"/nix/store/somewhereelse"}}',
    "empty-dir": '{"version":1,"root":{"type":"directory","entries":{}}}',
    "dir-keep": '{"version":1,"root":{"type":"directory","entries":{".keep":{"type":"regular","size":0,"narOffset":232}}}}',
    "complicated": '{"version":1,"root":{"type":"directory","entries":{".keep":{"type":"regular","size":0,"narOffset":232},"aa":{"type":"symlink","target":"/nix/store/somewhereelse"},"keep":{"type":"directory","entries":{".keep":{"type":"regular","size":0,"narOffset":760}}}}}}',
    "nested": '{"version":1,"root":{"type":"directory","entries":{"a":{"type":"directory","entries":{"b":{"type":"directory","entries":{"c":{"type":"directory","entries":{}}}}}}}}}',
    "mixed": '{"version":1,"root":{"type":"directory","entries":{"bin":{"type":"directory","entries":{"tool":{"type":"regular","size":17,"executable":true,"narOffset":400}}},"share":{"type":"directory","entries":{"doc":{"type":"directory","entries":{"README":{"type":"regular","size":8,"narOffset":912}}},"link":{"type":"symlink","target":"../bin/tool"}}},"zero":{"type":"regular","size":0,"narOffset":1368}}}}',
    "prefixdirs": '{"version":1,"root":{"type":"directory","entries":{"a":{"type":"directory","entries":{"z":{"type":"regular","size":1,"narOffset":368}}},"a-":{"type":"regular","size":1,"narOffset":592},"a.d":{"type":"directory","entries":{"a":{"type":"regular","size":1,"narOffset":920}}},"a0":{"type":"regular","size":1,"narOffset":1144},"ab":{"type":"symlink","target":"a"}}}}',
}
