"""Golden files: what each message looks like on the wire, in every version that was ever written.

`<wire name>.json` is a whole record, `shapes/<wire name>.json` what may be in its data, and `upcast/<wire name>.json`
what an old version is read as. `make golden` writes what is missing and refuses to change what lies in logs.
"""
