"""Tables of the music domain."""

from __future__ import annotations

from tl_jax.data.synthetic.spec import Chain, Domain, service

MUSIC = Domain(
    "music",
    (
        service(
            "search_song",
            "Find a song by its title.",
            ["title song song title"],
            requests=[
                "find the song[ {title}| I heard]",
                "search for the track {title}",
                "look up the song called {title}",
                "find me the tune[ {title}|]",
                "look for the track[ named {title}|]",
            ],
            questions=[
                "Do you have the song[ {title}|]",
                "Where can I find the track {title}",
                "Is the song[ named {title}|] in the catalogue",
            ],
            output={"song_id": "code", "artist": "artist"},
        ),
        service(
            "search_song_by_artist",
            "Find a song of an artist.",
            ["artist artist artist name", "year? int:1970-2024 year of release"],
            requests=[
                "find a song[ by {artist}|]",
                "search for music by {artist}",
                "look up a track from {artist}",
                "find me something[ by {artist}|] to hear",
                "look for a tune[ sung by {artist}|]",
            ],
            questions=[
                "Which songs did {artist} make",
                "Do you have a track[ by {artist}|]",
                "What music is there[ from {artist}|]",
            ],
            options={"year": ("from {year}", "released in {year}")},
            output={"song_id": "code", "title": "song"},
        ),
        service(
            "get_song_lyrics",
            "Show the words of a song.",
            ["song_id code song code"],
            requests=[
                "show the lyrics of [song {song_id}|the song]",
                "get the words of {song_id}",
                "look up the lyrics for [{song_id}|my song]",
                "find the text of song {song_id}",
                "show what is sung in [song {song_id}|the song], I want the lyrics",
            ],
            questions=[
                "What are the lyrics of [song {song_id}|the song]",
                "Do you have the words of {song_id}",
                "How do the lyrics of [{song_id}|my song] go",
            ],
            output={"first_line": "song", "verses": "int:1-8"},
        ),
        service(
            "get_song_chords",
            "Show the guitar chords of a song.",
            ["song_id code song code"],
            requests=[
                "show the chords of [song {song_id}|the song]",
                "get the guitar chords for {song_id}",
                "look up how to play [{song_id}|my song] on guitar",
                "find the chords of song {song_id}",
                "look up the guitar part of [song {song_id}|the song]",
            ],
            questions=[
                "What are the chords of [song {song_id}|the song]",
                "Which guitar chords does {song_id} use",
                "Which chords do I need for [{song_id}|my song]",
            ],
            output={"chords": "enum:C G Am F,D A Bm G,E B A,G Em C D", "tempo": "int:60-180"},
        ),
        service(
            "play_song",
            "Play a song now.",
            ["song_id code song code", "volume? int:5-100 loudness"],
            requests=[
                "play [song {song_id}|a song]",
                "start playing {song_id}",
                "put on [song {song_id}|the song]",
                "let me hear song {song_id}",
                "start [the track {song_id}|the track]",
            ],
            questions=[
                "Could I hear [song {song_id}|the song]",
                "Can you play {song_id} now",
                "Is it possible to hear [track {song_id}|the track] now",
            ],
            options={"volume": ("at volume {volume}", "with volume {volume}")},
            output={"state": "enum:playing,queued", "length": "time"},
        ),
        service(
            "create_playlist",
            "Make a new empty playlist.",
            ["name playlist playlist name", "public? bool public access"],
            requests=[
                "create a playlist[ called {name}|]",
                "make a new playlist named {name}",
                "start a playlist with the name {name}",
                "set up the playlist {name}",
                "open a fresh playlist[ under the name {name}|]",
            ],
            questions=[
                "Could you create the playlist {name}",
                "Can I have a new playlist[ called {name}|]",
                "May I get a playlist[ named {name}|]",
            ],
            options={
                "public": ("and make it public", "as a public list"),
                "!public": ("and keep it private", "as a private list"),
            },
            output={"playlist_id": "code", "songs": "enum:0,1"},
        ),
        service(
            "add_to_playlist",
            "Put a song into a playlist.",
            ["playlist_id code playlist code", "title song song title"],
            requests=[
                "add {title} to playlist {playlist_id}",
                "put the song {title} into [playlist {playlist_id}|my playlist]",
                "add the track[ {title}|] to the playlist {playlist_id}",
                "save {title} in playlist {playlist_id}",
                "insert {title} into [the list {playlist_id}|my playlist]",
            ],
            questions=[
                "Could you add {title} to [playlist {playlist_id}|my playlist]",
                "Can {title} go into playlist {playlist_id}",
                "Is it possible to put {title} on [playlist {playlist_id}|my playlist]",
            ],
            output={"songs": "int:1-90", "minutes": "int:3-300"},
        ),
    ),
    (
        Chain(
            "search_song",
            "song_id",
            "get_song_lyrics",
            "song_id",
            (
                "show me its lyrics",
                "get the words of it",
                "tell me the lyrics",
                "show what is sung",
            ),
        ),
        Chain(
            "search_song_by_artist",
            "song_id",
            "get_song_chords",
            "song_id",
            (
                "show me its chords",
                "get the guitar chords",
                "tell me how to play it on guitar",
                "look up the chords of it",
            ),
        ),
        Chain(
            "search_song",
            "song_id",
            "play_song",
            "song_id",
            ("play it", "start playing it", "put it on", "let me hear it"),
        ),
        Chain(
            "create_playlist",
            "playlist_id",
            "add_to_playlist",
            "playlist_id",
            ("add {title} to it", "put {title} on it", "add the song {title}", "insert {title}"),
        ),
    ),
)
