"""The root nodes of the sample trees in ``nar.py``, as messages. See PROVENANCE.md for where they come from."""

NODES: dict[str, str] = {
    "empty-file": "EiISIK8TSbn1-aGmoEBN6jbcyUmbyyXJrcESt8yak8rkHzJi",
    "one-byte": "EiQSIEj8ch-7wXLgkl-ievFnHeIlupJxNIApmLEKFWihiGUrGAE",
    "hello": "EiQSIFyngVrctITpoTbBHv5pwdUwF21Um10Y0DjrUoC0s0cMGAw",
    "seven": "EiQSIPYZ8d58-tYO2FSR9LENE3bWKSR5l8U_e3rZliNIBYlNGAc",
    "eight": "EiQSIAfUrrd3mOkgiyEx2k7wrqwVAitCG6xq8TBdMR0TJj6jGAg",
    "nine": "EiQSILfWW0hCDRAzyyWVKTJjtvcuq-4g1V5pnQ3xlzs8ne7RGAk",
    "exec-empty": "EiQSIK8TSbn1-aGmoEBN6jbcyUmbyyXJrcESt8yak8rkHzJiIAE",
    "exec": "EiYSILwfQHoRyTd8i5sT-VayechGJ3UQXrlY_JrjxA3ofMluGAogAQ",
    "link": "GhoSGC9uaXgvc3RvcmUvc29tZXdoZXJlZWxzZQ",
    "link8": "GgoSCDEyMzQ1Njc4",
    "empty-dir": "CiISIK8TSbn1-aGmoEBN6jbcyUmbyyXJrcESt8yak8rkHzJi",
    "dir-keep": "CiQSIItbXWQrZGu47VBLCGLDlBPofldJFJfee9B1lT97g4EOGAI",
    "complicated": "CiQSIEJKf2zgjYBdFbQoBi-q6WKZoWddcIw6OSYa_jjN0E_rGAg",
    "nested": "CiQSILKf1DDY9yxsWyQpjL26mgMVA__IDaU8aA-SoyNNQsjxGAY",
    "sorting": "CiQSII155ikqLLE8lnjb03NN4ZLgqRjc6AV-_kwaUgmTDpWbGCw",
    "prefixdirs": "CiQSIDTjkjG-DRcFxdW8UD5iMOT4q5tuwUEJDUfY85KsAwmRGA4",
    "mixed": "CiQSIOhEIinzVdbNMUizWaetI7btqU4v1fYsmi8AmjCfHs8eGA4",
}
"""URL-safe base64 without padding of the nameless node, with directory sizes as today's reference generates them."""

DOCUMENTED_NODES: dict[str, str] = {
    "empty-file": "EiISIK8TSbn1-aGmoEBN6jbcyUmbyyXJrcESt8yak8rkHzJi",
    "one-byte": "EiQSIEj8ch-7wXLgkl-ievFnHeIlupJxNIApmLEKFWihiGUrGAE",
    "hello": "EiQSIFyngVrctITpoTbBHv5pwdUwF21Um10Y0DjrUoC0s0cMGAw",
    "seven": "EiQSIPYZ8d58-tYO2FSR9LENE3bWKSR5l8U_e3rZliNIBYlNGAc",
    "eight": "EiQSIAfUrrd3mOkgiyEx2k7wrqwVAitCG6xq8TBdMR0TJj6jGAg",
    "nine": "EiQSILfWW0hCDRAzyyWVKTJjtvcuq-4g1V5pnQ3xlzs8ne7RGAk",
    "exec-empty": "EiQSIK8TSbn1-aGmoEBN6jbcyUmbyyXJrcESt8yak8rkHzJiIAE",
    "exec": "EiYSILwfQHoRyTd8i5sT-VayechGJ3UQXrlY_JrjxA3ofMluGAogAQ",
    "link": "GhoSGC9uaXgvc3RvcmUvc29tZXdoZXJlZWxzZQ",
    "link8": "GgoSCDEyMzQ1Njc4",
    "empty-dir": "CiISIK8TSbn1-aGmoEBN6jbcyUmbyyXJrcESt8yak8rkHzJi",
    "dir-keep": "CiQSIItbXWQrZGu47VBLCGLDlBPofldJFJfee9B1lT97g4EOGAE",
    "complicated": "CiQSID-VGhWv1Yb7MSHvTRPVgugRzg5afyHASX_YdJDp4jVaGAQ",
    "nested": "CiQSIIKUTleNEG21e4QNTLrQHO1fb1mx013v-eA1504Qr0z4GAM",
    "sorting": "CiQSII155ikqLLE8lnjb03NN4ZLgqRjc6AV-_kwaUgmTDpWbGBY",
    "prefixdirs": "CiQSIDR0TrctaVMEuqxj5PsA6ZqdGJbVaofgKvE9_tFXNm_PGAc",
    "mixed": "CiQSILZjtpAxBN7fV40_FVa5Cote9J_hMEYAhoR4UuXELdO0GAc",
}
"""The same with directory sizes as ``castore.proto`` documents them; accepted, never generated."""
