"""The sync protocol: pure, shared by the centre and the hub, specified in PROTOCOL.md beside this file.

It reads no clock, file, socket or randomness of its own: time, keys and random bytes are arguments, and what comes out
is values and bytes. A map, in the order to read it:

    errors      whose fault it is: the tree of errors, each with a stable code
    canonical   each value has one encoding, so that a hash names it                                    §1
    hlc         the clock's stamp: never back; effective time                                           §2
    change      a change: field writes to one record by one person, named by the hash of its bytes      §3
    schema      the table of kinds: fields, writers, policies, limits                                   §5
    limits      whether a value is of its field's type and within its limits                            §5
    merge       what is live, what is shown, what a person must decide; the digest                      §4, §8
    replica     `author` and `receive`: the only two verbs that move state                              §4
    referral    a referral's status, derived from which records exist                                   §5
    directory   a centre's entry: what the hub tells it of itself, and whom it calls                    §5
    subscription  who is subscribed to a patient, derived from its records; the patient's card            §10
    remarks     what is odd about a record, told beside it and altered by nobody                        §4
    documents   records as people and scripts write them (JSON), to and from writes
    exports     records, conflicts and referrals as people and scripts are shown them (JSON)
    telemedicine  what a doctor may prescribe at a distance, and what a patient's allergies say to it
    states      India's states and territories: names and codes of the directory, and a tile for each
    unusual     values that are saved as they are, once a person has looked at them again
    sheets      tables as CSV, in which nothing is a formula
    words       marks a text that pages translate
    pages       what the centre's and the hub's pages share: templates, words of each language, forms, assets
    fhir        records as FHIR R4 documents, and FHIR resources as lines of an import: see FHIR.md there
    codec       changes in columns: what segments and pages carry                                       §6
    keys        identities, recipients, grants, certificates, enrolment codes, signed documents         §7
    slip        a referral slip's code: a minimal summary on paper, signed by the node                       §7
    envelope    the seal around segments and pages                                                      §6, §7
    segment     a node's pending changes, packed by priority to a link's size, and opened again         §6
    feed_page   what the hub sends of a feed, its cursor and running hash                               §10
    ahead_page  what a new device gets first: the same items, patient by patient                        §10
    wire        frames, to and from bytes                                                               §9
    session     the exchange, both halves side by side: bytes in, events out                            §9

The four names to start from: `change.Change`, `merge.Record`, `replica.author`, `session.NodeSession`.
"""
