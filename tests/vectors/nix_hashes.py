"""Hash strings: section 2 of the project's vectors-nix.md."""

DIGEST = "08813cbee9903c62be4c5027726a418a300da4500b2d369d3af9286f4815ceba"

FORMS: list[str] = [
    "08813cbee9903c62be4c5027726a418a300da4500b2d369d3af9286f4815ceba",
    "sha256:08813cbee9903c62be4c5027726a418a300da4500b2d369d3af9286f4815ceba",
    "1fnf2m46ya7r7afkcb8ba2j0sc4a85m749sh9jz64g4hx6z3r088",
    "sha256:1fnf2m46ya7r7afkcb8ba2j0sc4a85m749sh9jz64g4hx6z3r088",
    "CIE8vumQPGK+TFAncmpBijANpFALLTadOvkob0gVzro=",
    "sha256:CIE8vumQPGK+TFAncmpBijANpFALLTadOvkob0gVzro=",
    "sha256-CIE8vumQPGK+TFAncmpBijANpFALLTadOvkob0gVzro=",
]
"""Texts of the sha256 `DIGEST`; the bare ones need the algorithm."""

LENIENT_SRI: list[tuple[str, str]] = [
    (
        "sha256-fgIr3TyFGDAXP5+qoAaiMKDg/a1MlT6Fv/S/DaA24S8=",
        "7e022bdd3c851830173f9faaa006a230a0e0fdad4c953e85bff4bf0da036e12f",
    ),
    (
        "sha256-fgIr3TyFGDAXP5+qoAaiMKDg/a1MlT6Fv/S/DaA24S8",
        "7e022bdd3c851830173f9faaa006a230a0e0fdad4c953e85bff4bf0da036e12f",
    ),
    (
        "sha256-syceJMUEknBDCHK8eGs6rUU3IQn+HnQfURfCrDxYPa9=",
        "b3271e24c5049270430872bc786b3aad45372109fe1e741f5117c2ac3c583daf",
    ),
    (
        "sha512-7g91TBvYoYQorRTqo+rYD/i5YnWvUBLnqDhPHxBJDaBW7smuPMeRp6E6JOFuVN9bzN0QnH1ToUU0u9c2CjALEQ",
        "ee0f754c1bd8a18428ad14eaa3ead80ff8b96275af5012e7a8384f1f10490da056eec9ae3cc791a7a13a24e16e54df5bccdd109c7d53a14534bbd7360a300b11",
    ),
    (
        "sha512-7g91TBvYoYQorRTqo+rYD/i5YnWvUBLnqDhPHxBJDaBW7smuPMeRp6E6JOFuVN9bzN0QnH1ToUU0u9c2CjALEQ=",
        "ee0f754c1bd8a18428ad14eaa3ead80ff8b96275af5012e7a8384f1f10490da056eec9ae3cc791a7a13a24e16e54df5bccdd109c7d53a14534bbd7360a300b11",
    ),
    (
        "sha512-7g91TBvYoYQorRTqo+rYD/i5YnWvUBLnqDhPHxBJDaBW7smuPMeRp6E6JOFuVN9bzN0QnH1ToUU0u9c2CjALEQ==",
        "ee0f754c1bd8a18428ad14eaa3ead80ff8b96275af5012e7a8384f1f10490da056eec9ae3cc791a7a13a24e16e54df5bccdd109c7d53a14534bbd7360a300b11",
    ),
    (
        "sha512-7g91TBvYoYQorRTqo+rYD/i5YnWvUBLnqDhPHxBJDaBW7smuPMeRp6E6JOFuVN9bzN0QnH1ToUU0u9c2CjALEQ===",
        "ee0f754c1bd8a18428ad14eaa3ead80ff8b96275af5012e7a8384f1f10490da056eec9ae3cc791a7a13a24e16e54df5bccdd109c7d53a14534bbd7360a300b11",
    ),
    (
        "sha512-7g91TBvYoYQorRTqo+rYD/i5YnWvUBLnqDhPHxBJDaBW7smuPMeRp6E6JOFuVN9bzN0QnH1ToUU0u9c2CjALEQ== cheesecake",
        "ee0f754c1bd8a18428ad14eaa3ead80ff8b96275af5012e7a8384f1f10490da056eec9ae3cc791a7a13a24e16e54df5bccdd109c7d53a14534bbd7360a300b11",
    ),
]
"""SRI texts with all that is tolerated in them, and the digest as hex."""

SHA512_NIXBASE32 = (
    "08hnc0a6vbvnd25l59pv70hvp65ppsldvhj8fm1ly8wfg5fr7p5d80d9481ykrqm3ki4l5gfmibky0gv3ma7shlmll898fq3d67a3zf"
)
"""The last digest of `LENIENT_SRI` in nixbase32."""

REJECTED: list[tuple[str, str | None]] = [
    ("SHA256:08813cbee9903c62be4c5027726a418a300da4500b2d369d3af9286f4815ceba", None),
    ("SHA256:1fnf2m46ya7r7afkcb8ba2j0sc4a85m749sh9jz64g4hx6z3r088", None),
    ("sha384-CIE8vumQPGK+TFAncmpBijANpFALLTadOvkob0gVzro=", None),
    ("sha384:000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000", None),
    ("sha256-CIE8vumQPGK+TFAncmpBijANpFALLTadOvkob0gVzr", None),
    ("sha256-CIE8vumQPGK+TFAncmpBijANpFALLTadOvkob0gVz===", None),
    ("sha256-", None),
    ("sha256:08813cbee9903c62be4c5027726a418a300da4500b2d369d3af9286f4815ceb", None),
    ("sha256:CIE8vumQPGK+TFAncmpBijANpFALLTadOvkob0gVzro", None),
    ("md5:08813cbee9903c62be4c5027726a418a300da4500b2d369d3af9286f4815ceba", None),
    ("08813cbee9903c62be4c5027726a418a300da4500b2d369d3af9286f4815ceba", None),
    ("1fnf2m46ya7r7afkcb8ba2j0sc4a85m749sh9jz64g4hx6z3r088", None),
    ("CIE8vumQPGK+TFAncmpBijANpFALLTadOvkob0gVzro=", None),
    ("sha256:08813cbee9903c62be4c5027726a418a300da4500b2d369d3af9286f4815ceba", "sha1"),
    ("sha256-CIE8vumQPGK+TFAncmpBijANpFALLTadOvkob0gVzro=", "sha512"),
]
"""Text, and the algorithm implied if there is one."""
