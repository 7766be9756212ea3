object bd63a16b8474bb11793dfb91eb62d021536fabc5
type commit
tag v1.0
tagger A <a@example.com> 1717200000 +0000

one
-----BEGIN PGP SIGNATURE-----

iIoEABYIADIWIQSKNk767c1B0dnkcLaCcHdzfD5aTAUCawxNVRQcZWQyNTUxOUBl
eGFtcGxlLmNvbQAKCRCCcHdzfD5aTC4yAQDpQ/Oga6XACv5FQBDOlidk7q6xktdV
JnAal00BvPXJ/AEAimqnnmAptdMVqEqbM9H7vny49R/n0Mg23G5xCXvdlw0=
=XYzl
-----END PGP SIGNATURE-----
